import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax.data import augment

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).random((6, 7, 9, 2), np.float32))


@pytest.fixture(scope="module")
def keys(images):
    return augment.per_example_keys(KEY, 0, len(images))


def windows(image, size):
    """Every window of a size, as bytes."""
    view = np.lib.stride_tricks.sliding_window_view(image, (*size, image.shape[-1]))
    return {window.tobytes() for row in view for column in row for window in column}


def test_keys_do_not_depend_on_how_a_batch_is_spread():
    whole = augment.per_example_keys(KEY, 0, 6)
    parts = [augment.per_example_keys(KEY, first, 2) for first in (0, 2, 4)]
    np.testing.assert_array_equal(
        jax.random.key_data(whole), np.concatenate([jax.random.key_data(p) for p in parts])
    )


def test_augmented_parts_equal_the_augmented_whole(images):
    whole = augment.augment(KEY, images, 0, flip=True, pad_crop=2)
    parts = [augment.augment(KEY, images[i : i + 3], i, flip=True, pad_crop=2) for i in (0, 3)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, images)


def test_random_crop_cuts_windows_and_reaches_every_corner(images, keys):
    cut = np.asarray(augment.random_crop(keys, images, (4, 5)))
    for original, window in zip(np.asarray(images), cut, strict=True):
        assert window.tobytes() in windows(original, (4, 5))
    many = jnp.tile(jnp.arange(4.0, dtype=jnp.float32).reshape(1, 2, 2, 1), (200, 1, 1, 1))
    corners = augment.random_crop(augment.per_example_keys(KEY, 0, 200), many, (1, 1))
    counts = np.bincount(np.asarray(corners).ravel().astype(int), minlength=4)
    assert counts.min() > 25  # 50 expected, deviation 6


def test_pad_and_crop_cuts_windows_of_the_reflected_image(images, keys):
    moved = np.asarray(augment.pad_and_crop(keys, images, 2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for wide, window in zip(padded, moved, strict=True):
        assert window.tobytes() in windows(wide, (7, 9))


def test_flip_mirrors_about_half_of_the_images(images):
    many = jnp.tile(images[:1], (200, 1, 1, 1))
    flipped = augment.random_flip(augment.per_example_keys(KEY, 0, 200), many)
    same = (np.asarray(flipped) == np.asarray(many)).all((1, 2, 3))
    mirrored = (np.asarray(flipped) == np.asarray(many)[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130  # 100 expected, deviation 7


def test_center_crop_is_the_middle(images):
    np.testing.assert_array_equal(augment.center_crop(images, (3, 5)), images[:, 2:5, 2:7])


def test_resize_is_pillows(images):
    resized = augment.resize(images[..., :1], (4, 5))
    for small, image in zip(np.asarray(resized), np.asarray(images), strict=True):
        expected = Image.fromarray(image[..., 0]).resize((5, 4), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(small[..., 0], np.asarray(expected), atol=1e-5)


def test_normalize_is_the_formula(images):
    result = augment.normalize(images, (0.2, 0.3), (0.5,))
    np.testing.assert_allclose(result, (np.asarray(images) - [0.2, 0.3]) / 0.5, atol=1e-6)


def test_sizes_and_counts_out_of_range_are_named(images, keys):
    with pytest.raises(ValueError, match=r"\(8, 5\).*\(7, 9\)"):
        augment.random_crop(keys, images, (8, 5))
    with pytest.raises(ValueError, match="0, 5"):
        augment.center_crop(images, (0, 5))
    with pytest.raises(ValueError, match=r"pad is 7.*\[0, 7\)"):
        augment.pad_and_crop(keys, images, 7)
    with pytest.raises(ValueError, match="mean has 3 values; 1 or 2"):
        augment.normalize(images, (0.1, 0.2, 0.3), (1.0,))
