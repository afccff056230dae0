"""How far the host runs ahead of the devices."""

import time
from contextlib import closing

import numpy as np
import pytest

from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource
from vision_jax.training.progress import STEPS_AHEAD, Progress


class Result:
    """What a step returns: there after so many seconds, one step after the other."""

    last = 0.0

    def __init__(self, seconds):
        self.there = Result.last = max(time.perf_counter(), Result.last) + seconds

    def is_ready(self):
        return time.perf_counter() >= self.there

    def block_until_ready(self):
        time.sleep(max(0.0, self.there - time.perf_counter()))
        return self


@pytest.mark.parametrize(
    ("seconds", "steps", "least", "most"),
    [(1.0, 3, 1, 2), (0.5, 7, 2, 4), (0.002, 200, STEPS_AHEAD // 2, STEPS_AHEAD)],
)
def test_no_more_is_pending_than_whoever_stops_a_run_would_wait_for(seconds, steps, least, most):
    images = np.zeros((8, 2, 2, 1), np.uint8)
    loader = Loader(ArraySource.from_arrays(images, np.zeros(8, np.int32)), 8, train=True)
    done = []
    with closing(Progress(loader, 0, steps, lambda step, _: done.append(step), shown=False)) as bar:
        bar.start()
        pending = []
        for step in range(1, steps + 1):
            bar.advance({"loss": Result(seconds)})
            pending.append(step - len(done))
        bar.wait()
    assert done == list(range(1, steps + 1))
    assert least <= max(pending) <= most
