"""The optimizer's state and the average split over devices, saved and restored onto others."""

import dataclasses
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.config import (
    CNNConfig,
    ModelConfig,
    OptimizerConfig,
    TrainClassifier,
    TrainCNN,
    TrainSelfSupervised,
)
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader
from vision_jax.errors import InputError
from vision_jax.run.build import build_task
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.loop import fit, initial_state
from vision_jax.training.memory import state_memory
from vision_jax.training.steps import DataParallel, augmented

SHAPE = (8, 8, 1)
INFO = DataInfo(SHAPE, tuple("0123456789"), 50, 6)
RULE = OptimizerConfig(name="adamw", weight_decay=0.1, learning_rate=0.01, ema=0.5)
CONFIG = TrainCNN(model=CNNConfig(stages=(4,), hidden=5), optimizer=RULE)


def task_of(shards, config=CONFIG):
    rule = dataclasses.replace(config.optimizer, shards=shards)
    return build_task(dataclasses.replace(config, optimizer=rule), INFO)


@pytest.fixture(scope="module")
def states():
    """The state that a split run begins with, and the whole one."""
    task = task_of(4)
    spread = DataParallel.over(4, shards=4).training(task)
    return spread.begin(lambda key: task.init(key, blank()), 0), initial_state(task, 0, SHAPE)


def blank():
    return {"image": jnp.zeros((1, *SHAPE)), "mask": jnp.ones(1, bool)}


@pytest.mark.slow
def test_each_device_holds_its_part_from_the_start(states):
    split, whole = states
    jax.tree.map(np.testing.assert_array_equal, split.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, split.opt_state, whole.opt_state)
    for path, leaf in jax.tree_util.tree_leaves_with_path((split.opt_state, split.average)):
        assert {part.data.shape[0] for part in leaf.addressable_shards} == {1}, path
        assert len(leaf) == 4

    def flat(leaf, like):
        np.testing.assert_array_equal(np.asarray(leaf).reshape(-1)[: like.size], like.reshape(-1))

    jax.tree.map(flat, split.average, whole.average)


@pytest.mark.slow
def test_the_memory_counted_is_that_of_the_arrays(states):
    (split, _), found = states, state_memory(task_of(4), SHAPE, shards=4)

    def held(tree):
        leaves = jax.tree.leaves(tree)
        return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)

    assert found == {
        "parameters": held(split.params),
        "statistics": 0,
        "gradients": held(split.params),
        "optimizer": held(split.opt_state),
        "average": held(split.average),
    }


@pytest.fixture
def run(small_source):
    def go(devices, *, folder, split=True, stop=lambda: False, epochs=2):
        shards = devices if split else 1
        options = {
            "parallel": DataParallel.over(devices, shards=shards),
            "validation": Loader(small_source, 8, train=False),
            "progress": False,
            "epochs": epochs,
        }
        with closing(Checkpoints(folder, metric=None, create=True)) as checkpoints:
            return fit(
                task_of(shards),
                Loader(small_source, 8, train=True),
                checkpoints=checkpoints,
                should_stop=stop,
                **options,
            )

    return go


def after(steps):
    calls = iter(range(1, 100))
    return lambda: next(calls) >= steps


def close(found, expected, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), found, expected)


@pytest.mark.slow
def test_a_run_goes_on_over_fewer_devices_and_over_more(run, tmp_path):
    """Floats are summed in another order: measured differences are below 1e-7."""
    whole = run(1, folder=tmp_path / "whole")
    moved = tmp_path / "moved"
    run(4, folder=moved, stop=after(3))
    run(2, folder=moved, stop=after(3))
    run(1, folder=moved, stop=after(2))
    found = run(4, folder=moved)
    close(found.state.params, whole.state.params)
    close(found.state.average, whole.state.average)
    assert int(found.state.step) == 12
    for a, b in zip(found.history, whole.history[-1:], strict=True):
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)


@pytest.mark.slow
def test_what_is_saved_is_restored_bit_for_bit_over_any_number(run, tmp_path):
    folder = tmp_path / "run"
    run(4, folder=folder, epochs=1)
    kept = {}
    with closing(Checkpoints(folder, metric=None)) as checkpoints:
        for shards in (4, 2, 1):
            task = task_of(shards)
            spread = DataParallel.over(shards, shards=shards).training(task)
            shapes = jax.eval_shape(lambda t=task: initial_state(t, 0, SHAPE))
            split = jax.eval_shape(spread.laid_out, shapes)
            restored = checkpoints.restore(6, state=spread.replicated(split))["state"]
            for leaf, shape in zip(
                jax.tree.leaves(restored.opt_state), jax.tree.leaves(shapes.opt_state), strict=True
            ):
                assert leaf.shape == shape.shape
                if shards > 1:
                    assert {len(part.data) for part in leaf.addressable_shards} == {1}
            kept[shards] = [
                np.asarray(leaf).reshape(-1)
                for leaf in jax.tree.leaves((restored.opt_state, restored.average))
            ]
    for shards in (4, 2):
        for found, whole in zip(kept[shards], kept[1], strict=True):
            np.testing.assert_array_equal(found[: whole.size], whole)
            assert whole.size == 1 or not found[whole.size :].any()


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_still_refused(run, tmp_path):
    run(4, folder=tmp_path, epochs=1)
    other = dataclasses.replace(CONFIG, model=CNNConfig(stages=(4,), hidden=6))
    task, parallel = task_of(2, other), DataParallel.over(2, shards=2)
    shapes = jax.eval_shape(lambda: initial_state(task, 0, SHAPE))
    with (
        closing(Checkpoints(tmp_path, metric=None)) as checkpoints,
        pytest.raises(InputError, match="holds float32"),
    ):
        checkpoints.restore(6, state=parallel.replicated(shapes))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["byol", "simsiam"])
def test_a_teacher_which_every_step_reads_stays_whole(method):
    config = TrainSelfSupervised(
        model=ModelConfig("cnn", {"stages": [4], "hidden": 8}),
        optimizer=dataclasses.replace(RULE, ema=0.0 if method == "byol" else 0.5),
        method=method,
        projector=(8, 8),
        width=8,
    )
    task = task_of(4, config)
    found = state_memory(task, SHAPE, shards=4)
    whole = found["parameters"] + found["statistics"]
    if method == "byol":
        assert found["average"] == whole
    else:
        assert found["average"] < 0.3 * whole
    spread = DataParallel.over(4, shards=4).training(task)
    batch = {"image": jnp.zeros((2, *SHAPE)), "mask": jnp.ones(2, bool)}
    shapes = jax.eval_shape(lambda: spread.laid_out(initial_state(task, 0, SHAPE)))
    totals = spread.zeros(augmented(task, lambda key, batch, first: batch), shapes, batch)
    assert {"loss", "gradient_norm"} <= totals.keys()


@pytest.mark.slow
def test_the_memory_that_the_docs_publish_is_counted(request):
    """The table of docs/distributed.md, in MiB a device."""
    text = (request.config.rootpath / "docs" / "distributed.md").read_text()
    info = DataInfo((224, 224, 3), tuple(map(str, range(1000))), 10**6, 1000)
    for devices in (8, 256):
        rule = OptimizerConfig(name="adamw", ema=0.9999, shards=devices)
        config = TrainClassifier(model=ModelConfig("vit_large_patch16_224"), optimizer=rule)
        found = state_memory(build_task(config, info), info.image_shape, shards=devices)
        cells = [found[name] for name in ("parameters", "gradients", "optimizer", "average")]
        row = [devices, *(f"{round(size / 2**20):,}" for size in [*cells, sum(cells)])]
        assert "| " + " | ".join(map(str, row)) + " |" in text
