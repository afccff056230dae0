"""Runs of small networks whose weights are drawn at random, on no data."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.config import CNNConfig, DataConfig, TrainCNN
from vision_jax.data.info import DataInfo
from vision_jax.models import build_model
from vision_jax.run.run import Run
from vision_jax.tasks.classification import Classification
from vision_jax.training.steps import DataParallel


def drawn(task, shape):
    """A state of random weights; those that start at zero would hide a wrong path."""
    batch = {"image": jnp.zeros((1, *shape))}
    state = jax.jit(task.init)(jax.random.key(0), batch)
    random = np.random.default_rng(0)

    def draw(leaf):
        return jnp.asarray(random.normal(size=leaf.shape) / 5, leaf.dtype) + leaf

    stats = jax.tree.map(lambda leaf: jnp.abs(draw(leaf)) + jnp.float32(0.5), state.stats)
    return state.replace(params=jax.tree.map(draw, state.params), stats=stats)


@pytest.fixture(scope="session")
def random_run():
    """A function that makes a run of a model of the table with random weights."""

    @functools.cache
    def make(name, shape, **options):
        task = Classification(build_model(name, **options), optax.identity())
        config = TrainCNN(data=DataConfig(), model=CNNConfig())
        info = DataInfo(shape, tuple("abcdefghij"), 0, 0)
        parallel = DataParallel.over()
        state = parallel.replicate(drawn(task, shape))
        return Run(Path("runs/drawn"), config, info, 0, task, state, parallel)

    return make


@pytest.fixture
def pictures():
    """A function that draws images in [0, 1]."""

    def draw(count, shape, seed=0):
        return np.random.default_rng(seed).random((count, *shape), np.float32)

    return draw
