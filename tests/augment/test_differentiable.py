import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.augment.differentiable import diff_augment
from vision_jax.augment.draws import per_example_keys

COUNT = 64


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.uniform(0.5, 1, (COUNT, 16, 8, 2)).astype(np.float32))


@pytest.fixture(scope="module")
def keys():
    return per_example_keys(jax.random.key(0), 0, COUNT)


def test_no_transform_changes_nothing(images, keys):
    np.testing.assert_array_equal(diff_augment(keys, images, ()), images)


def test_translation_shifts_by_up_to_an_eighth(images, keys):
    found, seen = np.asarray(diff_augment(keys, images, ("translation",))), set()
    for image, moved in zip(np.asarray(images), found, strict=True):
        padded = np.pad(image, ((2, 2), (1, 1), (0, 0)))
        shifts = {
            (i, j)
            for i in range(5)
            for j in range(3)
            if np.array_equal(padded[i : i + 16, j : j + 8], moved)
        }
        assert len(shifts) == 1
        seen |= shifts
    assert len(seen) == 15


def test_cutout_blanks_a_rectangle_of_half_the_sides(images, keys):
    found = np.asarray(diff_augment(keys, images, ("cutout",)))
    whole = 0
    for image, cut in zip(np.asarray(images), found, strict=True):
        blank = (cut == 0).all(-1)
        rows, columns = np.flatnonzero(blank.any(1)), np.flatnonzero(blank.any(0))
        assert len(rows) <= 8
        assert len(columns) <= 4
        assert blank.sum() == len(rows) * len(columns)
        np.testing.assert_array_equal(cut[~blank], image[~blank])
        whole += blank.sum() == 32
    assert whole > 0


def test_color_is_affine_in_each_image(images, keys):
    """On grey images it is brightness and contrast alone: a slope in [0.5, 1.5]."""
    grey = jnp.repeat(images[..., :1], 2, -1)
    found = np.asarray(diff_augment(keys, grey, ("color",)), np.float64)
    for image, seen in zip(np.asarray(grey), found, strict=True):
        slope, shift = np.polyfit(image.ravel(), seen.ravel(), 1)
        np.testing.assert_allclose(seen, slope * image + shift, atol=1e-5)
        assert 0.5 <= slope <= 1.5
        assert -0.5 <= seen.mean() - image.mean() <= 0.5


@pytest.mark.parametrize("names", [("color",), ("translation",), ("cutout",)])
def test_gradients_reach_the_images_and_equal_a_finite_difference(images, keys, names):
    def total(x):
        return jnp.sum(jnp.sin(diff_augment(keys, x, names)))

    direction = jax.random.normal(jax.random.key(1), images.shape)
    grads = jax.grad(total)(images)
    step = jnp.float32(1e-3)
    slope = (total(images + step * direction) - total(images - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(grads * direction), slope, rtol=2e-2, atol=0.5)
    assert (np.abs(np.asarray(grads)).sum((1, 2, 3)) > 0).all()
