"""What lets larger networks and batches train: parts of a batch, averages, bfloat16."""

import dataclasses
from contextlib import closing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from vision_jax.config import (
    AutoencoderConfig,
    CNNConfig,
    GANConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainCNN,
    TrainGAN,
)
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader
from vision_jax.errors import InputError
from vision_jax.models import CNN, ConvAutoencoder
from vision_jax.run.build import build_task
from vision_jax.tasks import accumulation
from vision_jax.tasks.accumulation import rematerialize
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.loop import fit, initial_state
from vision_jax.training.metrics import compute
from vision_jax.training.steps import DataParallel

SHAPE = (4, 4, 1)
INFO = DataInfo(SHAPE, ("a", "b", "c"), 16, 1)
SGD = OptimizerConfig(name="sgd", learning_rate=0.1, schedule="constant", clip=0.5)
CONFIGS = {
    "cnn": TrainCNN(model=CNNConfig(stages=(4,), hidden=5), optimizer=SGD),
    "autoencoder": TrainAutoencoder(
        model=AutoencoderConfig(kind="conv", hidden=(3,), code=2), optimizer=SGD
    ),
    "gan": TrainGAN(
        model=GANConfig(generator=(6, 4), discriminator=(4,), latent_size=3, dropout=0.0),
        optimizer=SGD,
    ),
}
FAMILIES = pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, id=name, marks=() if name == "cnn" else pytest.mark.slow)
        for name, config in CONFIGS.items()
    ],
)


def task_of(config, **options):
    optimizer = dataclasses.replace(config.optimizer, **options)
    return build_task(dataclasses.replace(config, optimizer=optimizer), INFO)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return {
        "image": rng.random((16, *SHAPE), np.float32),
        "label": rng.integers(0, 3, 16).astype(np.int32),
        "mask": np.arange(16) < 13,
    }


def after(task, rows, *, devices=1, steps=2):
    """The state and the last metrics after some steps on the same batch."""
    spread = jax.tree.map(lambda x: jnp.asarray(x.reshape(devices, -1, *x.shape[1:])), rows)
    step = jax.jit(jax.vmap(task.train_step, (None, 0), out_axes=None, axis_name="batch"))
    state, metrics = initial_state(task, 0, SHAPE), {}
    for _ in range(steps):
        state, metrics = step(state, spread)
    return state, compute(metrics)


def close(found, expected, atol=2e-6):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=atol), found, expected)


@pytest.mark.slow
@FAMILIES
@pytest.mark.parametrize(("devices", "accumulate"), [(1, 2), (4, 2), (4, None)])
def test_parts_add_up_to_the_whole_batch(config, rows, devices, accumulate, monkeypatch):
    monkeypatch.setattr(accumulation, "_PIXELS", 2 * SHAPE[0] * SHAPE[1])
    monkeypatch.setattr(accumulation, "_IMAGES", 1)
    whole, expected = after(without_norm(task_of(config, accumulate=1)), rows)
    task = without_norm(task_of(config, accumulate=accumulate))
    parts, found = after(task, rows, devices=devices)
    close(parts.params, whole.params)
    close(parts.average, whole.average)
    assert int(parts.step) == 2
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


class Plain(nn.Module):
    """A generator without batch norm, which would see a part of the batch at a time."""

    latent_size: int = 3

    @nn.compact
    def __call__(self, latents, train=False):
        return nn.tanh(nn.Dense(16)(latents)).reshape(-1, *SHAPE), {}


def without_norm(task):
    return dataclasses.replace(task, generator=Plain()) if hasattr(task, "generator") else task


@FAMILIES
def test_a_step_reports_its_rate_and_the_norm_of_the_whole_gradient(config, rows):
    task = task_of(config, clip=0.0, momentum=0.0)
    before = initial_state(task, 0, SHAPE)
    for devices in (1, 4):
        state, figures = after(task, rows, devices=devices, steps=1)
        moves = jax.tree.map(jnp.subtract, before.params, state.params)
        assert figures["learning_rate"] == pytest.approx(0.1)
        norm = float(optax.tree.norm(moves)) / 0.1
        assert figures["gradient_norm"] == pytest.approx(norm, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cnn", "autoencoder"])
def test_evaluation_takes_the_average_of_the_weights(family, rows):
    config = CONFIGS[family]
    task, plain = task_of(config, ema=0.6), task_of(config)
    average, states = jax.tree.map(np.asarray, initial_state(plain, 0, SHAPE).params), []
    for steps in range(1, 5):
        states.append(after(plain, rows, steps=steps)[0])
        decay = min(0.6, (1 + steps) / (10 + steps))
        average = jax.tree.map(
            lambda old, new, d=decay: d * old + (1 - d) * np.asarray(new),
            average,
            states[-1].params,
        )
    state, _ = after(task, rows, steps=4)
    close(state.average["params"], average)
    # The average is beside the training, which it does not change.
    jax.tree.map(np.testing.assert_array_equal, state.params, states[-1].params)
    assert states[-1].average == {}
    images = jnp.asarray(rows["image"])
    moved = plain.embed(states[-1].replace(params=state.average["params"]), images)
    np.testing.assert_array_equal(task.embed(state, images), moved)
    assert not np.allclose(moved, plain.embed(states[-1], images), atol=1e-5)


@pytest.mark.slow
def test_a_run_with_all_of_them_resumes_bit_for_bit(small_source, tmp_path):
    task = task_of(CONFIGS["cnn"], name="lion", ema=0.9, accumulate=2)
    task = dataclasses.replace(task, model=task.model.clone(num_classes=10, dropout=0.3))
    train = partial(fit, task, Loader(small_source, 8, train=True), epochs=2, progress=False)
    whole = train()
    calls = iter(range(100))
    for stop in (lambda: next(calls) == 7, lambda: False):
        with closing(Checkpoints(tmp_path, metric=None, create=True)) as checkpoints:
            last = train(checkpoints=checkpoints, should_stop=stop)
    assert last.history[-1] == whole.history[-1]
    for name in ("params", "average", "opt_state"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(last.state, name), getattr(whole.state, name)
        )


@FAMILIES
def test_bfloat16_trains_close_to_float32(config, rows):
    task = task_of(config)
    half = build_task(dataclasses.replace(config, precision="bfloat16"), INFO)
    (state, found), (_, expected) = after(half, rows), after(task, rows)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype("float32")}
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.03)
    assert found["loss"] != expected["loss"]


@FAMILIES
def test_what_is_computed_again_is_the_same(config, rows):
    if config.name == "gan":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, r1=1.0))
    again = build_task(dataclasses.replace(config, remat=True), INFO)
    (state, found), (other, expected) = (after(t, rows) for t in (again, task_of(config)))
    close((state.params, state.stats), (other.params, other.stats))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    spread = jax.tree.map(lambda x: jnp.asarray(x[None]), rows)
    step = jax.vmap(again.train_step, (None, 0), out_axes=None, axis_name="batch")
    assert "remat" in str(jax.make_jaxpr(step)(state, spread))


@pytest.mark.parametrize(
    "model",
    [CNN(num_classes=3, stages=(4, 4), hidden=8, padding="SAME"), ConvAutoencoder((8, 8, 1))],
    ids=["cnn", "autoencoder"],
)
def test_less_is_kept_for_the_backward_pass(model):
    images = jnp.ones((32, 8, 8, 1))
    params = jax.jit(model.init)(jax.random.key(0), images)

    def kept(enabled):
        function = rematerialize(lambda p: model.apply(p, images)[0], enabled)
        pullback = jax.eval_shape(lambda p: jax.vjp(function, p)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    assert kept(True) < 0.6 * kept(False)


def test_what_does_not_fit_is_named(rows):
    with pytest.raises(InputError, match=r"batch is 16; .* multiple of accumulate, 3"):
        after(task_of(CONFIGS["cnn"], accumulate=3), rows)
    with pytest.raises(InputError, match=r"accumulate is 4; batch_size / devices, 2"):
        DataParallel.over(4).check(8, 4)
    with pytest.raises(InputError, match=r"optimizer.ema is 0.5; .* model.ema"):
        task_of(CONFIGS["gan"], ema=0.5)
    for options, message in (
        ({"schedule": "steps"}, r"drop_epochs is \(\)"),
        ({"drop_epochs": (1.0,)}, r"drop_epochs is \(1.0,\)"),
        ({"schedule": "steps", "drop_epochs": (2.0, 1.0)}, "rising"),
        ({"schedule": "steps", "drop_epochs": (2.0,), "drop_factor": 2.0}, "drop_factor is 2.0"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"ema": 1.0}, "ema is 1.0"),
    ):
        with pytest.raises(InputError, match=message):
            OptimizerConfig(**options).check()


@pytest.mark.slow
def test_a_split_optimizer_trains_as_a_whole_one(small_source, tmp_path):
    def run(shards, count=4, *, folder=None, epochs=2, stop=lambda: False):
        options = {"weight_decay": 0.1, "learning_rate": 0.01, "ema": 0.5, "shards": shards}
        task = task_of(CONFIGS["cnn"], name="adamw", **options)
        task = dataclasses.replace(task, model=task.model.clone(num_classes=10))
        loader, parallel = Loader(small_source, 8, train=True), DataParallel.over(count)
        parallel = dataclasses.replace(parallel, splits_optimizer=shards > 1)
        options = {"epochs": epochs, "parallel": parallel, "progress": False}
        options["validation"] = Loader(small_source, 8, train=False)
        if folder is None:
            return fit(task, loader, **options)
        with closing(Checkpoints(folder, metric=None, create=True)) as checkpoints:
            return fit(task, loader, checkpoints=checkpoints, should_stop=stop, **options)

    split, whole = run(4), run(1)
    close(split.state.params, whole.state.params, 1e-6)
    close(split.state.average, whole.state.average, 1e-6)
    for a, b in zip(split.history, whole.history, strict=True):
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)
    for leaf in jax.tree.leaves(split.state.opt_state):
        assert {part.data.size for part in leaf.addressable_shards} == {leaf.size // 4}
    calls = iter(range(100))
    run(4, folder=tmp_path, stop=lambda: next(calls) == 4)
    resumed = run(4, folder=tmp_path)
    jax.tree.map(np.testing.assert_array_equal, resumed.state.params, split.state.params)


def test_shards_that_cannot_be_are_named():
    with pytest.raises(InputError, match="shards is 3; it must be 1 or the number of devices, 4"):
        DataParallel.over(4, shards=3)
    with pytest.raises(InputError, match="shards is 4; it must be 1 with muon"):
        OptimizerConfig(name="muon", shards=4).check()
