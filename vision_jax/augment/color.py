"""Colour transforms of float images in [0, 1]: brightness, contrast, hue, tone and blur.

The functions of one image (H, W, C) follow Pillow's operations of the same names, without rounding
to whole levels. Images without three channels have no colour: saturation and hue leave them
unchanged.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision_jax.augment.draws import Image, Images, Keys, Range, apply_at_random, check_range

Factor = Float[Array, ""] | float


def color_jitter(
    keys: Keys,
    images: Images,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
) -> Images:
    """Change brightness, contrast, saturation and hue, in this order, each by a uniform draw.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        brightness: largest change of the brightness factor from 1, in [0, 1].
        contrast: likewise for contrast.
        saturation: likewise for saturation.
        hue: largest rotation of the colour circle in either direction, in turns, in [0, 0.5].

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        ValueError: a strength is out of range.
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, value, most in [*((n, v, 1) for n, v in strengths.items()), ("hue", hue, 0.5)]:
        if not 0 <= value <= most:
            raise ValueError(f"{name} is {value}; it must be in [0, {most}]")

    def one(key: Key[Array, ""], image: Image) -> Image:
        draws = jax.random.uniform(key, (4,), jnp.float32, -1, 1)
        if brightness:
            image = adjust_brightness(image, 1 + brightness * draws[0])
        if contrast:
            image = adjust_contrast(image, 1 + contrast * draws[1])
        if saturation:
            image = adjust_saturation(image, 1 + saturation * draws[2])
        return shift_hue(image, hue * draws[3]) if hue else image

    return jax.vmap(one)(keys, images)


def random_grey(keys: Keys, images: Images, *, probability: float = 0.2) -> Images:
    """Turn some colour images grey, keeping three channels.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        probability: chance that an image is changed, in [0, 1].

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        ValueError: `probability` is out of range.
    """
    grey = jnp.broadcast_to(to_grey(images), images.shape) if images.shape[-1] == 3 else images
    return apply_at_random(keys, probability, grey, images)


def random_blur(
    keys: Keys, images: Images, *, probability: float = 0.5, sigma: Range = (0.1, 2.0)
) -> Images:
    """Blur some images with a Gaussian of random width.

    Chen et al., "A simple framework for contrastive learning of visual representations", 2020,
    appendix A.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        probability: chance that an image is changed, in [0, 1].
        sigma: bounds of the Gaussian's standard deviation in pixels, above 0.

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        ValueError: a value is out of range.
    """
    check_range("sigma", sigma, above=0.0)
    subkeys = jax.vmap(jax.random.split)(keys)

    def one(key: Key[Array, ""], image: Image) -> Image:
        return gaussian_blur(image, jax.random.uniform(key, (), jnp.float32, *sigma))

    blurred = jax.vmap(one)(subkeys[:, 0], images)
    return apply_at_random(subkeys[:, 1], probability, blurred, images)


def gaussian_blur(image: Image, sigma: Factor) -> Image:
    """Blur with a Gaussian; at the border the weights inside the image are scaled to sum to 1.

    Args:
        image: (H, W, C) in [0, 1].
        sigma: () standard deviation in pixels, above 0.

    Returns:
        (H, W, C) in [0, 1].
    """

    def weights(side: int) -> Float[Array, "side side"]:
        place = jnp.arange(side, dtype=image.dtype)
        return jax.nn.softmax(-0.5 * ((place[:, None] - place) / sigma) ** 2)

    # Products with whole matrices need no kernel size, which would depend on the drawn sigma.
    rows, columns = (weights(side) for side in image.shape[:2])
    blurred = jnp.einsum("ih,jw,hwc->ijc", rows, columns, image, precision="highest")
    return jnp.clip(blurred, 0, 1)


def adjust_brightness(image: Image, factor: Factor) -> Image:
    """Scale the pixels: factor 0 gives black, 1 the image itself."""
    return _blend(jnp.zeros((), image.dtype), image, factor)


def adjust_contrast(image: Image, factor: Factor) -> Image:
    """Scale the distance to the image's mean grey: factor 0 gives that grey, 1 the image itself."""
    return _blend(jnp.mean(to_grey(image)), image, factor)


def adjust_saturation(image: Image, factor: Factor) -> Image:
    """Scale the distance to the grey image: factor 0 gives the grey image, 1 the image itself."""
    return _blend(to_grey(image), image, factor) if image.shape[-1] == 3 else image


def adjust_sharpness(image: Image, factor: Factor) -> Image:
    """Scale the distance to the smoothed image: factor 0 gives that image, 1 the image itself.

    Smooths as Pillow does: a 3×3 kernel of ones with 5 at its centre; the border is unchanged.
    """
    rows = image[:-2] + image[1:-1] + image[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = (box + 4 * image[1:-1, 1:-1]) * (1 / 13)
    return _blend(image.at[1:-1, 1:-1].set(inner), image, factor)


def shift_hue(image: Image, turns: Factor) -> Image:
    """Rotate the colour circle, keeping HSV's value and saturation.

    Args:
        image: (H, W, C) in [0, 1].
        turns: () rotation in turns; 1/3 maps red to green.

    Returns:
        (H, W, C) in [0, 1].
    """
    if image.shape[-1] != 3:
        return image
    # Channel by channel: a last axis of three fills no vector register.
    red, green, blue = (image[..., channel] for channel in range(3))
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    scale = 1 / jnp.where(chroma > 0, chroma, 1)
    sector = jnp.where(
        value == red,
        (green - blue) * scale,
        jnp.where(value == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
    )
    sector += 6 * jnp.asarray(turns, image.dtype)

    def channel(start: int) -> Float[Array, "height width"]:
        # Smith, "Color gamut transform pairs", 1978, in the form without a table of cases.
        place = sector + start
        place -= 6 * jnp.floor(place * (1 / 6))
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    return jnp.clip(jnp.stack([channel(5), channel(3), channel(1)], -1), 0, 1)


def posterize(image: Image, bits: Int[Array, ""] | int) -> Image:
    """Keep only the highest bits of the 8-bit levels.

    Args:
        image: (H, W, C) in [0, 1].
        bits: () number of bits kept, in [1, 8].

    Returns:
        (H, W, C) in [0, 1], in whole levels.
    """
    step = jnp.left_shift(jnp.int32(1), 8 - jnp.asarray(bits, jnp.int32))
    return _from_levels(_levels(image) & -step, image)


def solarize(image: Image, threshold: Factor) -> Image:
    """Invert all pixels at or above a threshold in [0, 1]."""
    return jnp.where(image < threshold, image, 1 - image)


def autocontrast(image: Image) -> Image:
    """Stretch each channel to the full range [0, 1]; a constant channel stays as it is."""
    low, high = (f(image, (0, 1), keepdims=True) for f in (jnp.min, jnp.max))
    span = high - low
    return jnp.where(span > 0, (image - low) / jnp.where(span > 0, span, 1), image)


def equalize(image: Image) -> Image:
    """Equalise the histogram of each channel's 8-bit levels in whole steps, as Pillow does.

    Args:
        image: (H, W, C) in [0, 1].

    Returns:
        (H, W, C) in [0, 1], in whole levels; an image of fewer than 255 pixels stays as it is.
    """
    levels = _levels(image)

    def one(channel: Int[Array, "height width"]) -> Int[Array, "height width"]:
        counts = jnp.zeros(256, jnp.int32).at[channel].add(1)
        step = (channel.size - counts[jnp.max(channel)]) // 255
        below = jnp.cumsum(counts) - counts
        table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, table[channel], channel)

    return _from_levels(jax.vmap(one, -1, -1)(levels), image)


def to_grey(images: Float[Array, "*shape channels"]) -> Float[Array, "*shape 1"]:
    """Compute the luma of RGB (ITU-R BT.601), or the mean of any other number of channels.

    Args:
        images: (..., C) float images.

    Returns:
        (..., 1) in the same range.
    """
    if images.shape[-1] != 3:
        return jnp.mean(images, -1, keepdims=True)
    # Not a matrix product: an accelerator may compute that with fewer bits.
    weights = jnp.array([0.299, 0.587, 0.114], images.dtype)
    return jnp.sum(images * weights, -1, keepdims=True)


def _blend(plain: Array, image: Image, factor: Factor) -> Image:
    """Interpolate from a plain image (factor 0) to the image (1), or extrapolate beyond it."""
    return jnp.clip(plain + jnp.asarray(factor, image.dtype) * (image - plain), 0, 1)


def _levels(image: Image) -> Int[Array, "height width channels"]:
    return jnp.round(image * 255).astype(jnp.int32)


def _from_levels(levels: Int[Array, "height width channels"], image: Image) -> Image:
    return levels.astype(image.dtype) * (1 / 255)
