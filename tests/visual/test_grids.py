import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.tasks.latents import interpolate, sample_latents
from vision_jax.visual.grids import tile, to_pixels

KEY = jax.random.key(0)


def test_a_longer_draw_begins_with_the_shorter_one():
    short, long = sample_latents(KEY, 3, 5), sample_latents(KEY, 300, 5)
    np.testing.assert_array_equal(short, long[:3])
    assert abs(float(long.mean())) < 0.1
    assert abs(float(long.std()) - 1) < 0.1


@pytest.mark.parametrize("method", ["spherical", "linear"])
def test_walks_begin_and_end_where_they_should(method):
    start, stop = sample_latents(KEY, 4, 6), sample_latents(jax.random.key(1), 4, 6)
    walk = interpolate(start, stop, 5, method=method)
    assert walk.shape == (4, 5, 6)
    np.testing.assert_allclose(walk[:, 0], start, atol=1e-6)
    np.testing.assert_allclose(walk[:, -1], stop, atol=1e-5)


def test_spherical_walks_turn_evenly_at_constant_length():
    start = jnp.asarray([[2.0, 0, 0]], jnp.float32)
    stop = jnp.asarray([[0, 2.0, 0]], jnp.float32)
    walk = np.asarray(interpolate(start, stop, 7))[0]
    np.testing.assert_allclose(np.linalg.norm(walk, axis=1), 2, rtol=1e-5)
    angles = np.arctan2(walk[:, 1], walk[:, 0])
    np.testing.assert_allclose(angles, np.linspace(0, np.pi / 2, 7), atol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0])
def test_walks_along_one_line_are_finite(factor):
    start = sample_latents(KEY, 2, 6)
    walk = interpolate(start, start * factor, 3)
    np.testing.assert_allclose(walk[:, 1], start * ((1 + factor) / 2), atol=1e-3)
    assert np.isfinite(interpolate(start, jnp.zeros((2, 6)), 3)).all()


def test_walks_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="steps is 1"):
        interpolate(jnp.zeros((1, 2)), jnp.zeros((1, 2)), 1)
    with pytest.raises(ValueError, match=r"stop has shape \(1, 3\); .* \(1, 2\)"):
        interpolate(jnp.zeros((1, 2)), jnp.zeros((1, 3)), 4)


def test_pixels_are_rounded_and_clipped():
    images = np.array([-0.5, 0.0, 0.5 / 255 + 1e-4, 1.0, 1.5], np.float32)
    np.testing.assert_array_equal(to_pixels(images), [0, 0, 1, 255, 255])


@pytest.mark.parametrize(("columns", "shape"), [(None, (8, 11)), (5, (2, 19)), (2, (8, 7))])
def test_tiles_lie_row_by_row(columns, shape):
    count = {None: 7, 5: 5, 2: 6}[columns]
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] + np.zeros(
        (1, 2, 3, 1), np.uint8
    )
    sheet = tile(images, columns=columns)
    assert sheet.shape[:2] == shape
    width = columns or 3
    for number in range(count):
        row, column = divmod(number, width)
        cell = sheet[row * 3 : row * 3 + 2, column * 4 : column * 4 + 3]
        assert (cell == number).all()
    assert (sheet == 255).sum() == sheet.size - count * 6


def test_nothing_cannot_be_tiled():
    with pytest.raises(ValueError, match="0 images"):
        tile(np.zeros((0, 2, 3, 1), np.uint8))
