import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.tasks.latents import interpolate, sample_latents

KEY = jax.random.key(0)


def test_a_longer_draw_begins_with_the_shorter_one():
    short, long = sample_latents(KEY, 3, 5), sample_latents(KEY, 300, 5)
    np.testing.assert_array_equal(short, long[:3])
    assert abs(float(long.mean())) < 0.1
    assert abs(float(long.std()) - 1) < 0.1


@pytest.mark.parametrize("way", ["spherical", "linear"])
def test_walks_begin_and_end_where_they_should(way):
    start, stop = sample_latents(KEY, 4, 6), sample_latents(jax.random.key(1), 4, 6)
    walk = interpolate(start, stop, 5, method=way)
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
    with pytest.raises(ValueError, match=r"stop has shape \(1, 3\); it must be start.s, \(1, 2\)"):
        interpolate(jnp.zeros((1, 2)), jnp.zeros((1, 3)), 4)
