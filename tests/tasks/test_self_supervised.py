"""Learning without labels: the same on any devices, a teacher that follows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.config import DataConfig, ModelConfig, TrainSelfSupervised
from vision_jax.data.info import DataInfo
from vision_jax.errors import InputError
from vision_jax.losses.contrastive import prediction
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.self_supervised import LOSSES, SelfSupervised

INFO = DataInfo((6, 6, 1), None, 24, 3)
MODEL = ModelConfig("cnn", {"stages": [4], "hidden": 6, "padding": "SAME"})


def build(**options):
    options = {"projector": (8, 4)} | options
    config = TrainSelfSupervised(model=MODEL, **options)
    return SelfSupervised.from_config(config, INFO, optax.sgd(0.1))


@pytest.fixture(scope="module")
def batch():
    views = np.random.default_rng(0).random((8, 3, 6, 6, 1), np.float32)
    return {
        "image": jnp.asarray(views[:, 0]),
        "views": jnp.asarray(views),
        "mask": jnp.ones(8, bool),
    }


def pair(batch):
    return batch | {"views": batch["views"][:, :2]}


def after(task, state, batch, devices):
    spread = jax.tree.map(lambda x: x.reshape(devices, len(x) // devices, *x.shape[1:]), batch)
    step = jax.vmap(task.train_step, (None, 0), out_axes=None, axis_name=AXIS)
    return jax.jit(step)(state, spread)


@pytest.mark.slow
@pytest.mark.parametrize("method", LOSSES)
def test_the_number_of_devices_makes_no_difference(method, batch):
    task = build(method=method)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    one, figures = after(task, state, pair(batch), 1)
    four, others = after(task, state, pair(batch), 4)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), one.variables, four.variables
    )
    np.testing.assert_allclose(figures["loss"], others["loss"], rtol=2e-5)
    assert figures["gradient_norm"][0] > 1e-4


@pytest.mark.slow
def test_byol_predicts_what_its_teacher_projects_and_the_teacher_follows(batch):
    task = build(method="byol", views=3, teacher=0.9)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    away = jax.tree.map(lambda x: x + jnp.float32(0.01), state.average)
    moved, figures = after(task, state.replace(average=away), batch, 1)
    flat = batch["views"].reshape(-1, 6, 6, 1)
    targets = task.model.apply(away, flat, train=False)[0].reshape(8, 3, -1)
    student = jax.vmap(
        lambda x: task.model.apply(state.variables, x, train=True, mutable=["batch_stats"]),
        axis_name=AXIS,
    )
    (_, endpoints), _ = student(flat[None])
    wanted = prediction(endpoints["prediction"][0].reshape(8, 3, -1), targets).mean()
    np.testing.assert_allclose(figures["loss"][0] / figures["loss"][1], wanted, rtol=1e-5)
    decay = min(0.9, 2 / 11)  # it rises from there, see `TrainState.averaged`
    kernel = ("params", "dense", "kernel")
    before, now, new = (
        tree[kernel[0]][kernel[1]][kernel[2]] for tree in (away, moved.average, moved.variables)
    )
    np.testing.assert_allclose(now, decay * before + (1 - decay) * new, rtol=1e-5)


@pytest.mark.slow
def test_dinos_centre_moves_towards_the_teachers_mean(batch):
    task = build(method="dino")
    state = jax.jit(task.init)(jax.random.key(0), batch)
    moved, _ = after(task, state, pair(batch), 2)
    flat = pair(batch)["views"].reshape(-1, 6, 6, 1)
    mean = task.model.apply(state.average, flat, train=False)[0].mean(0)
    np.testing.assert_allclose(moved.stats["centre"], 0.1 * mean, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 1}, r"views is 1; it must be in \[2, 16\] with simclr"),
        ({"views": 3, "method": "vicreg"}, r"views is 3; it must be in \[2, 2\] with vicreg"),
        ({"projector": ()}, r"projector is \(\); it must be widths >= 1"),
        ({"teacher": 1.0}, r"teacher is 1.0; it must be in \(0, 1\)"),
        ({"loss_options": {"margin": 1}}, "has 'margin'; with this loss it takes temperature"),
    ],
)
def test_settings_that_cannot_be_are_named(options, message):
    with pytest.raises(InputError, match=message):
        build(**options)


def test_views_need_a_recipe(tmp_path):
    import vision_jax

    config = TrainSelfSupervised(model=MODEL, data=DataConfig(batch_size=64))
    with pytest.raises(InputError, match="a recipe is needed, which tells the 2 views"):
        vision_jax.train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
