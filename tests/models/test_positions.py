"""Positions on another grid; `tests/weights/test_vit.py` holds them against other libraries'."""

import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.models.positions import resample_positions


def places(rows, columns):
    down, across = ((np.arange(n, dtype=np.float32) + 0.5) / n for n in (rows, columns))
    return np.stack(np.meshgrid(down, across, indexing="ij"), -1)


def test_positions_linear_in_the_place_stay_so_on_another_grid():
    old = jnp.asarray(places(8, 8).reshape(1, 64, 2))
    resized = resample_positions(old, (8, 8), (16, 12)).reshape(16, 12, 2)
    # The edges have no neighbours on one side.
    np.testing.assert_allclose(resized[4:-4, 3:-3], places(16, 12)[4:-4, 3:-3], atol=1e-5)


@pytest.mark.parametrize("resampling", ["antialias", "bicubic", "dinov2"])
def test_what_is_the_same_everywhere_stays_so_and_the_same_grid_stays_as_it_is(resampling):
    same = jnp.full((1, 16, 2), 0.3)
    resized = resample_positions(same, (4, 4), (3, 7), resampling)
    np.testing.assert_allclose(resized, np.full((1, 21, 2), 0.3), atol=1e-6)
    old = jnp.asarray(places(8, 8).reshape(1, 64, 2))
    np.testing.assert_array_equal(resample_positions(old, (8, 8), (8, 8), resampling), old)
