"""Batch statistics over all devices, and over each device's part of a batch."""

import dataclasses

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from vision_jax.config import GANConfig, ModelConfig, TrainClassifier, TrainGAN
from vision_jax.data.info import DataInfo
from vision_jax.models import layers
from vision_jax.run.build import build_task
from vision_jax.tasks.classification import Classification

RATE = 0.1


class Net(nn.Module):
    """A convolution, batch norm and a head."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, images, train=False):
        x = layers.Conv(4, name="conv")(images)
        x = nn.relu(layers.BatchNorm(name="norm")(x, train))
        return layers.classify(x, {}, self.num_classes, None, name="head")


@pytest.fixture(scope="module")
def batch():
    draw = np.random.default_rng(0)
    # Devices see images of different brightness, so that their statistics differ.
    images = draw.random((16, 5, 5, 2), np.float32) * np.repeat([0.1, 0.4, 0.7, 1], 4)[
        :, None, None, None
    ].astype(np.float32)
    labels = draw.integers(0, 3, 16).astype(np.int32)
    rows = {"image": images, "label": labels, "mask": np.ones(16, bool)}
    return jax.tree.map(jnp.asarray, rows)


def step(batch, devices, *, per_device):
    task = Classification(Net(), optax.sgd(RATE), statistics_per_device=per_device)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    parts = jax.tree.map(lambda x: jnp.asarray(x.reshape(devices, -1, *x.shape[1:])), batch)
    run = jax.vmap(task.train_step, (None, 0), out_axes=None, axis_name="batch")
    after, _ = jax.jit(run)(state, parts)
    return after.variables


def test_over_all_devices_they_are_those_of_the_whole_batch(batch, assert_close):
    found = step(batch, 4, per_device=False)
    assert_close(found, step(batch, 1, per_device=False), 1e-6)
    x = nn.Conv(4, (3, 3)).apply({"params": initial(batch)["params"]["conv"]}, batch["image"])
    moved = 0.9 * 0 + 0.1 * np.asarray(x, np.float64).mean((0, 1, 2))
    np.testing.assert_allclose(found["batch_stats"]["norm"]["mean"], moved, atol=1e-6)


def initial(batch):
    return flax.core.unfreeze(Net().init(jax.random.fold_in(jax.random.key(0), 0), batch["image"]))


def test_per_device_a_step_is_the_mean_of_steps_on_the_parts(batch, assert_close):
    """SGD is linear in the gradient, which is the mean over parts of equal size."""
    found = step(batch, 4, per_device=True)
    rows = [jax.tree.map(lambda x, i=i: x[4 * i : 4 * i + 4], batch) for i in range(4)]
    alone = [step(part, 1, per_device=False) for part in rows]
    assert_close(found, jax.tree.map(lambda *parts: sum(parts) / 4, *alone), 1e-6)
    whole = step(batch, 4, per_device=False)
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), found, whole)
    assert apart["params"]["conv"]["kernel"] > 1e-3
    assert apart["batch_stats"]["norm"]["var"] > 1e-3


@pytest.mark.parametrize("kind", ["classifier", "gan"])
def test_per_device_no_collective_but_the_gradients_and_the_running_statistics_is_left(kind):
    """A layer's statistics cost one forwards and one backwards."""
    config = {
        "classifier": TrainClassifier(
            model=ModelConfig("wrn_16_4", {"depth": 10, "width": 1}), batch_statistics="device"
        ),
        "gan": TrainGAN(
            model=GANConfig(generator=(6, 4), discriminator=(4,), latent_size=3),
            batch_statistics="device",
        ),
    }[kind]
    info = DataInfo((8, 8, 1), ("a", "b", "c"), 16, 1)

    def collectives(config):
        task = build_task(config, info)
        batch = jax.eval_shape(
            lambda: {
                "image": jnp.zeros((2, 4, 8, 8, 1)),
                "label": jnp.zeros((2, 4), jnp.int32),
                "mask": jnp.ones((2, 4), bool),
            }
        )
        one = jax.eval_shape(lambda: {"image": jnp.zeros((1, 8, 8, 1))})
        state = jax.eval_shape(
            lambda: task.init(jax.random.key(0), jax.tree.map(lambda x: jnp.zeros(x.shape), one))
        )
        jaxpr = jax.make_jaxpr(lambda s, b: task.train_step(s, b), axis_env=[("batch", 2)])(
            state, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)
        )
        return str(jaxpr).count("psum["), state

    per_device, state = collectives(config)
    everywhere, _ = collectives(dataclasses.replace(config, batch_statistics="global"))
    norms = len(jax.tree.leaves(state.stats)) // 2
    assert norms
    assert everywhere - per_device >= 2 * norms
