"""What `ModelTask` does for every loss: views, whole batches, and one answer on any devices."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from vision_jax.augment.recipes import augment
from vision_jax.errors import InputError
from vision_jax.models.cnn import CNN
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks import accumulation
from vision_jax.tasks.base import ModelTask, Needs, gather
from vision_jax.tasks.classification import Classification
from vision_jax.training.loop import fit, initial_state
from vision_jax.training.steps import augmented

MODEL = CNN(num_classes=3, stages=(4,), hidden=6, padding="SAME")


@dataclasses.dataclass(frozen=True)
class Pairs(ModelTask):
    """Two views of an image are told from those of all others, on whatever device they are."""

    needs: ClassVar[Needs] = Needs(views=2, whole_batch=True)

    def examples(self, output, endpoints, batch):
        del output
        vectors = endpoints["embedding"]
        vectors = vectors / (jnp.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-6)
        own, others = vectors[:, 0], gather(vectors[:, 1])
        labels = jnp.arange(len(own)) + jax.lax.axis_index(AXIS) * len(own)
        losses = optax.softmax_cross_entropy_with_integer_labels(own @ others.T / 0.5, labels)
        return {"loss": losses}


TASK = Pairs(MODEL, optax.sgd(0.1))
AUGMENT = partial(augment, recipe="light", pad_crop=1)


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(0).random((8, 6, 6, 1), np.float32)
    return {"image": jnp.asarray(images), "mask": jnp.ones(8, bool)}


@pytest.fixture(scope="module")
def state(batch):
    return TASK.init(jax.random.key(0), batch)


def spread(batch, devices):
    return jax.tree.map(lambda x: x.reshape(devices, len(x) // devices, *x.shape[1:]), batch)


def after(state, batch, devices):
    step = jax.vmap(augmented(TASK, AUGMENT), (None, 0), out_axes=None, axis_name=AXIS)
    return jax.jit(step)(state, spread(batch, devices))


@pytest.mark.slow
def test_a_loss_over_the_whole_batch_is_the_same_on_any_devices(state, batch):
    (one, figures), *more = (after(state, batch, devices) for devices in (1, 2, 4))
    for other, others_figures in more:
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), one.params, other.params)
        np.testing.assert_allclose(figures["loss"][0], others_figures["loss"][0], rtol=1e-5)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one.params, state.params)
    assert moved["dense"]["kernel"] > 1e-5


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, train=False):
        rows = images.reshape(len(images), -1)
        return nn.Dense(3)(rows), {"embedding": rows}


def test_a_step_is_the_same_under_shard_map_as_under_vmap(batch):
    task = Classification(Linear(), optax.sgd(1.0))
    batch = batch | {"label": jnp.arange(8, dtype=jnp.int32) % 3}
    state = task.init(jax.random.key(0), batch)
    step = jax.vmap(task.train_step, (None, 0), out_axes=None, axis_name=AXIS)
    wanted, _ = jax.jit(step)(state, spread(batch, 2))
    mesh = Mesh(np.array(jax.devices()[:2]), (AXIS,))
    options = {"in_specs": (P(), P(AXIS)), "out_specs": P(), "check_vma": False}
    found, _ = jax.jit(jax.shard_map(task.train_step, mesh=mesh, **options))(state, batch)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found.params, wanted.params)


@pytest.mark.slow
def test_views_differ_and_are_the_same_again_wherever_the_image_is(batch):
    seen = {}

    class Seen(Pairs):
        def train_step(self, state, batch):
            return state, {"views": batch["views"]}

    task = Seen(MODEL, optax.sgd(0.1))
    state = jax.jit(task.init)(jax.random.key(0), batch)
    for devices in (1, 4):
        step = jax.vmap(augmented(task, AUGMENT), (None, 0), axis_name=AXIS)
        _, figures = step(state, spread(batch, devices))
        seen[devices] = np.asarray(figures["views"]).reshape(8, 2, 6, 6, 1)
    np.testing.assert_array_equal(seen[1], seen[4])
    assert np.abs(seen[1][:, 0] - seen[1][:, 1]).max() > 0.01
    _, later = step(state.replace(step=state.step + 1), spread(batch, 4))
    assert np.abs(np.asarray(later["views"]).reshape(8, 2, 6, 6, 1) - seen[1]).max() > 0.01


def test_a_batch_that_is_compared_is_never_split(state, batch):
    with pytest.raises(InputError, match="accumulate is 4; it must be 1 with Pairs"):
        dataclasses.replace(TASK, accumulate=4)
    sizes = []

    class Noting(Pairs):
        def examples(self, output, endpoints, batch):
            sizes.append(len(batch["mask"]))
            return super().examples(output, endpoints, batch)

    step = jax.vmap(augmented(Noting(MODEL, optax.sgd(0.1)), AUGMENT), (None, 0), axis_name=AXIS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulation, "_PIXELS", 1)
        patch.setattr(accumulation, "_IMAGES", 1)
        jax.eval_shape(step, state, spread(batch, 1))
    assert set(sizes) == {8}


def test_views_are_refused_where_nothing_tells_them_apart():
    with pytest.raises(InputError, match="needs 2 augmented views"):
        augmented(TASK, None)


@pytest.mark.slow
def test_the_loop_trains_on_views_and_repeats_itself(small_source):
    runs = [
        fit(TASK, small_source, batch_size=16, epochs=2, augment=AUGMENT, progress=False)
        for _ in range(2)
    ]
    assert runs[0].history == runs[1].history
    assert int(runs[0].state.step) == 6
    before = initial_state(TASK, 0, small_source.image_shape).params
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), runs[0].state.params, before)
    assert moved["conv1"]["kernel"] > 1e-4
