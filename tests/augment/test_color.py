from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from vision_jax.augment import color
from vision_jax.augment.draws import per_example_keys

LEVEL = 1 / 255


@pytest.fixture(scope="module", params=[1, 3])
def pixels(request):
    """A soft, a noisy, a dark and a plain image as (4, 40, 36, C) uint8."""
    rng = np.random.default_rng(0)
    soft = np.linspace(0, 255, 40 * 36 * request.param).reshape(40, 36, request.param)
    noisy = rng.integers(0, 256, soft.shape)
    dark = rng.gamma(2.0, 20.0, soft.shape).clip(3, 200)
    return np.stack([soft, noisy, dark, np.full(soft.shape, 77)]).astype(np.uint8)


def pillow(image):
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def floats(image):
    return jnp.asarray(image, jnp.float32) * LEVEL


def assert_close(found, picture, levels):
    """Within so many of the 8-bit levels to which Pillow rounds."""
    expected = np.asarray(picture).reshape(found.shape) * LEVEL
    np.testing.assert_allclose(found, expected, atol=levels * LEVEL)


@pytest.mark.parametrize(
    ("adjust", "enhancer", "rounding"),
    [
        # Pillow cuts levels off, and rounds the plain image before it goes on from there.
        (color.adjust_brightness, ImageEnhance.Brightness, 1),
        (color.adjust_contrast, ImageEnhance.Contrast, 2),
        (color.adjust_saturation, ImageEnhance.Color, 2),
        (color.adjust_sharpness, ImageEnhance.Sharpness, 2),
    ],
)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.9])
def test_enhancements_are_pillows(pixels, adjust, enhancer, rounding, factor):
    adjust = jax.jit(adjust)
    for image in pixels:
        expected = enhancer(pillow(image)).enhance(factor)
        assert_close(adjust(floats(image), factor), expected, rounding + 0.01)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_is_pillows(pixels, bits):
    for image in pixels:
        expected = ImageOps.posterize(pillow(image), bits)
        assert_close(jax.jit(color.posterize)(floats(image), bits), expected, 0.01)


@pytest.mark.parametrize("threshold", [0, 100, 255])
def test_solarize_is_pillows(pixels, threshold):
    for image in pixels:
        expected = ImageOps.solarize(pillow(image), threshold)
        # Half a level keeps the comparison of floats away from equality.
        found = color.solarize(floats(image), (threshold - 0.5) * LEVEL)
        assert_close(found, expected, 0.01)


def test_autocontrast_and_equalize_are_pillows(pixels):
    for image in pixels:
        stretched, spread = jax.jit(color.autocontrast), jax.jit(color.equalize)
        assert_close(stretched(floats(image)), ImageOps.autocontrast(pillow(image)), 1.01)
        assert_close(spread(floats(image)), ImageOps.equalize(pillow(image)), 0.01)


def test_equalize_leaves_few_pixels_alone():
    image = floats(np.random.default_rng(0).integers(0, 256, (8, 8, 1)).astype(np.uint8))
    np.testing.assert_array_equal(color.equalize(image), image)


@pytest.mark.parametrize("turns", [-0.4, 0.0, 1 / 3, 0.5])
def test_hue_turns_the_colour_circle(turns):
    image = np.random.default_rng(1).random((30, 20, 3)).astype(np.float32)
    image[:3] = [[[0, 0, 0]], [[1, 1, 1]], [[1, 0, 0]]]
    hsv = rgb_to_hsv(image)
    hsv[..., 0] = (hsv[..., 0] + turns) % 1
    found = jax.jit(color.shift_hue)(image, turns)
    np.testing.assert_allclose(found, hsv_to_rgb(hsv), atol=1e-5)


def test_grey_images_keep_their_colour():
    grey = jnp.asarray(np.random.default_rng(2).random((6, 5, 1)), jnp.float32)
    as_rgb = jnp.tile(grey, (1, 1, 3))
    for image in (grey, as_rgb):
        np.testing.assert_allclose(color.adjust_saturation(image, 1.7), image, atol=1e-6)
        np.testing.assert_allclose(color.shift_hue(image, 0.3), image, atol=1e-6)


def test_jitter_draws_factors_within_their_bounds():
    keys = per_example_keys(jax.random.key(0), 0, 500)
    plain = jnp.full((500, 2, 2, 3), 0.5, jnp.float32)
    off = {"contrast": 0.0, "saturation": 0.0}
    bright = jax.jit(partial(color.color_jitter, brightness=0.4, hue=0.0, **off))(keys, plain)
    factors = np.asarray(bright)[:, 0, 0, 0] / 0.5
    assert 0.6 <= factors.min() < 0.62
    assert 1.38 < factors.max() <= 1.4
    assert factors.mean() == pytest.approx(1, abs=0.04)  # deviation 0.01
    red = jnp.zeros((500, 2, 2, 3), jnp.float32).at[..., 0].set(1)
    turned = jax.jit(partial(color.color_jitter, brightness=0.0, hue=0.1, **off))(keys, red)
    hues = (rgb_to_hsv(np.asarray(turned)[:, 0, 0])[:, 0] + 0.5) % 1 - 0.5
    assert -0.1001 < hues.min() < -0.098
    assert 0.098 < hues.max() < 0.1001


def test_jitter_is_the_cores_in_their_order():
    keys = per_example_keys(jax.random.key(1), 0, 3)
    images = jnp.asarray(np.random.default_rng(3).random((3, 6, 5, 3)), jnp.float32)
    found = jax.jit(color.color_jitter)(keys, images)
    for key, image, result in zip(keys, images, found, strict=True):
        b, c, s, h = jax.random.uniform(key, (4,), jnp.float32, -1, 1)
        expected = color.adjust_brightness(image, 1 + 0.4 * b)
        expected = color.adjust_contrast(expected, 1 + 0.4 * c)
        expected = color.shift_hue(color.adjust_saturation(expected, 1 + 0.4 * s), 0.1 * h)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_to_grey_is_pillows(pixels):
    grey = color.to_grey(floats(pixels))
    for found, image in zip(grey, pixels, strict=True):
        assert_close(found, pillow(image).convert("L"), 0.51)
    four = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(color.to_grey(jnp.asarray(four))[..., 0], four.mean(-1), atol=1e-6)


def test_random_grey_changes_its_share_of_colour_images():
    keys = per_example_keys(jax.random.key(0), 0, 1000)
    image = jnp.asarray(np.random.default_rng(0).random((3, 4, 3)), jnp.float32)
    many = jnp.tile(image, (1000, 1, 1, 1))
    found = np.asarray(jax.jit(color.random_grey)(keys, many))
    grey = np.isclose(found, color.to_grey(image), atol=1e-6).all((1, 2, 3))
    assert (grey | (found == np.asarray(image)).all((1, 2, 3))).all()
    assert grey.mean() == pytest.approx(0.2, abs=0.05)  # deviation 0.013
    np.testing.assert_array_equal(color.random_grey(keys, many[..., :2]), many[..., :2])


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_gaussian_blur_is_scipys(pixels, sigma):
    blur = jax.jit(color.gaussian_blur)
    for image in np.asarray(floats(pixels), np.float64):
        # Outside the image there is nothing: weights are scaled to what lies inside.
        smooth = partial(gaussian_filter, sigma=(sigma, sigma, 0), mode="constant", truncate=8)
        expected = smooth(image) / smooth(np.ones_like(image))
        found = blur(jnp.asarray(image, jnp.float32), jnp.float32(sigma))
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_random_blur_draws_its_share_and_width():
    keys = per_example_keys(jax.random.key(0), 0, 600)
    dots = jnp.zeros((600, 31, 31, 1), jnp.float32).at[:, 15, 15].set(1)
    peaks = np.asarray(jax.jit(partial(color.random_blur, sigma=(1.0, 2.0)))(keys, dots))[:, 15, 15]
    blurred = peaks[peaks < 1]
    assert len(blurred) / 600 == pytest.approx(0.5, abs=0.08)  # deviation 0.02
    sigmas = (2 * np.pi * blurred) ** -0.5  # the peak of a Gaussian of that deviation
    assert 0.99 < sigmas.min() < 1.02
    assert 1.98 < sigmas.max() < 2.01
    assert sigmas.mean() == pytest.approx(1.5, abs=0.07)  # deviation 0.017


def test_strengths_out_of_range_are_named():
    keys = per_example_keys(jax.random.key(0), 0, 1)
    image = jnp.zeros((1, 2, 2, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"hue is 0.6; it must be in \[0, 0.5\]"):
        color.color_jitter(keys, image, hue=0.6)
    with pytest.raises(ValueError, match=r"contrast is -1.0; it must be in \[0, 1\]"):
        color.color_jitter(keys, image, contrast=-1.0)
    with pytest.raises(ValueError, match=r"sigma is \(0.0, 1.0\)"):
        color.random_blur(keys, image, sigma=(0.0, 1.0))
    with pytest.raises(ValueError, match=r"probability is 1.5; it must be in \[0, 1\]"):
        color.random_grey(keys, image, probability=1.5)
