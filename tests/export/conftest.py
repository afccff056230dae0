"""A run with an index, exported once, and runs whose weights are drawn at random."""

import jax
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
        state = initial_state(task, 0, image_shape)
        random = np.random.default_rng(0)

        def drawn(leaf):
            return leaf + np.float32(0.1) * random.random(leaf.shape, np.float32)

        moved = {name: jax.tree.map(drawn, getattr(state, name)) for name in ("params", "stats")}
        state = parallel.replicate(state.replace(**moved))
        return Run(tmp_path, config, info, 0, task, state, parallel)

    return make
