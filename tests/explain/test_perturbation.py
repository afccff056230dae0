"""Maps of black boxes, on functions whose maps are known."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.explain.checks import check_count
from vision_jax.explain.perturbation import occlusion, rise, rise_plan, shapley


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).random((2, 8, 8, 3)), jnp.float32)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(0), 2)


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(1).normal(size=(8, 8, 3)).astype(np.float32)


def cells(values, size):
    """Sum values (N, H, W) over square cells."""
    count, height, width = values.shape
    parts = values.reshape(count, height // size, size, width // size, size)
    return np.broadcast_to(parts.sum((2, 4))[:, :, None, :, None], parts.shape).reshape(
        values.shape
    )


def test_of_a_linear_function_each_patch_has_its_own_terms(images, keys, weights):
    def function(x):
        return jnp.einsum("bhwc,hwc->b", x, weights)

    terms = cells(np.sum(np.asarray(images) * weights, -1), 4)
    lost = occlusion(function, images, window=4, stride=4, baseline="black")
    np.testing.assert_allclose(lost, terms, atol=1e-4)
    values = shapley(function, images, keys, permutations=3, grid=2, baseline="black")
    np.testing.assert_allclose(values, terms / 16, atol=1e-5)


@jax.jit
def patch_function(x):
    """A function whose patches depend on each other, of two targets."""
    means = x.reshape(-1, 2, 4, 2, 4, 3).mean((2, 4, 5)).reshape(-1, 4)
    first = jnp.max(means, -1) * means[:, 0] + means[:, 1] * means[:, 2] - 3 * means[:, 3] ** 2
    return jnp.stack([first, jnp.exp(means).prod(-1)], 1)


def test_shapley_values_are_efficient_and_unbiased(images):
    base = jnp.full_like(images, 0.25)
    many = jax.random.split(jax.random.key(1), 2)
    maps = shapley(patch_function, images, many, permutations=1000, grid=2, baseline=0.25)
    assert maps.shape == (2, 2, 8, 8)
    values = np.asarray(maps).reshape(2, 2, 2, 4, 2, 4).sum((3, 5)).reshape(2, 2, 4)
    exact = np.zeros((2, 2, 4))
    for order in permutations(range(4)):
        mask, before = np.zeros(4, np.float32), patch_function(base)
        for patch in order:
            mask[patch] = 1
            kept = np.kron(mask.reshape(2, 2), np.ones((4, 4), np.float32))[..., None]
            after = patch_function(kept * images + (1 - kept) * base)
            exact[..., patch] += np.asarray(after - before) / 24
            before = after
    np.testing.assert_allclose(values, exact, atol=0.01 * np.abs(exact).max())
    few = shapley(patch_function, images, many, permutations=1, grid=2, baseline=0.25)
    gained = patch_function(images) - patch_function(base)
    np.testing.assert_allclose(few.sum((2, 3)), gained, atol=1e-5)


def test_rise_is_the_mean_score_of_the_masks_that_keep_a_pixel(images, keys, weights):
    @jax.jit
    def function(x):
        return jnp.tanh(jnp.einsum("bhwc,hwc->b", x, weights))

    maps = rise(function, images, keys, masks=50, grid=3)
    draw = rise_plan((8, 8), masks=50, grid=3).draw
    masks = np.asarray(jax.vmap(draw, (None, 0))(keys[1], jnp.arange(50))[0])
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert abs(masks.mean() - 0.5) < 0.1
    scores = np.asarray(function(masks[..., None] * images[1]))
    expected = np.tensordot(scores, masks, (0, 0)) / masks.sum(0)
    np.testing.assert_allclose(maps[1], expected, atol=1e-4)
    moved = rise(lambda x: function(x) + 7, images, keys, masks=50, grid=3)
    np.testing.assert_allclose(moved, maps + 7, atol=1e-4)


def test_counts_may_be_numpy_s():
    check_count(np.int64(3), "window")
    with pytest.raises(InputError, match="a whole number of at least 1 is needed"):
        check_count(np.int64(0), "window")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (occlusion, {"window": 9}, "window is 9; it must be at most the images' side of 8"),
        (occlusion, {"stride": 0}, "stride is 0; a whole number of at least 1"),
        (occlusion, {"window": 2, "stride": 5}, "stride is 5; it must be at most window, 2"),
        (rise, {"masks": 0}, "masks is 0; a whole number of at least 1"),
        (rise, {"kept": 1.0}, "kept is 1.0; it must be between 0 and 1"),
        (shapley, {"permutations": -1}, "permutations is -1"),
        (shapley, {"grid": 9}, "grid is 9; it must be at most"),
    ],
)
def test_bad_options_are_refused(images, keys, method, options, message):
    keys = [] if method is occlusion else [keys]
    with pytest.raises(InputError, match=message):
        method(patch_function, images, *keys, **options)
