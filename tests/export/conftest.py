"""A run with an index, exported once, and runs whose weights are drawn at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import load_run
from vision_jax.data.info import DataInfo
from vision_jax.gallery import build_index
from vision_jax.run.build import build_task
from vision_jax.run.run import Run
from vision_jax.training.loop import initial_state
from vision_jax.training.steps import DataParallel


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


@pytest.fixture(scope="module")
def index(run):
    return build_index(run, run.source("test"))


@pytest.fixture
def random_run(tmp_path):
    """Make a run of a config whose weights and statistics are drawn, and not trained."""

    def make(config, image_shape):
        info = DataInfo(image_shape, ("a", "b", "c"), 64, 1)
        task, parallel = build_task(config, info), DataParallel.over(1)
        random = np.random.default_rng(0)

        def drawn(leaf):
            if not jnp.issubdtype(leaf.dtype, np.floating):
                key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                return jax.random.key(0) if key else np.zeros(leaf.shape, leaf.dtype)
            if len(leaf.shape) < 2:  # a variance is positive
                return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
            scale = 1 / np.sqrt(np.prod(leaf.shape[:-1]))
            return (scale * random.normal(size=leaf.shape)).astype(np.float32)

        shapes = jax.eval_shape(lambda: initial_state(task, 0, image_shape))
        state = parallel.replicate(jax.tree.map(drawn, shapes))
        return Run(tmp_path, config, info, 0, task, state, parallel)

    return make
