"""What pixels look like: brightness, colour and tone of float images in [0, 1].

Each core takes one image (H, W, C) and follows Pillow's operation of the same name, without its
rounding to whole levels. Images of another number of channels than three have no colour: their
saturation and hue stay as they are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision_jax.augment.geometry import Image, Images, Keys

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
    """Changes brightness, contrast, saturation and hue, in this order, each by a uniform draw.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        brightness: its factor is within 1 ± this, in [0, 1].
        contrast: the same.
        saturation: the same.
        hue: greatest turn of the colour circle either way, in [0, 0.5].

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


def adjust_brightness(image: Image, factor: Factor) -> Image:
    """Scales the pixels: 0 is black, 1 the image itself."""
    return _blend(jnp.zeros((), image.dtype), image, factor)


def adjust_contrast(image: Image, factor: Factor) -> Image:
    """Moves the pixels from the image's mean grey: 0 is that grey, 1 the image itself."""
    return _blend(jnp.mean(luma(image)), image, factor)


def adjust_saturation(image: Image, factor: Factor) -> Image:
    """Moves the colours from grey: 0 is the grey image, 1 the image itself."""
    return _blend(luma(image), image, factor) if image.shape[-1] == 3 else image


def adjust_sharpness(image: Image, factor: Factor) -> Image:
    """Moves the pixels from their smoothed values: 0 is smoothed, 1 the image itself.

    The smoothing is Pillow's, a 3×3 kernel of ones with 5 in its centre, and leaves the border.
    """
    rows = image[:-2] + image[1:-1] + image[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = (box + 4 * image[1:-1, 1:-1]) * (1 / 13)
    return _blend(image.at[1:-1, 1:-1].set(inner), image, factor)


def shift_hue(image: Image, turns: Factor) -> Image:
    """Turns the colour circle, keeping the value and saturation of HSV.

    Args:
        image: (H, W, C) in [0, 1].
        turns: () by how much; 1/3 turns red into green.

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
        # Smith, "Color gamut transform pairs", 1978, in the form that needs no table of cases.
        place = sector + start
        place -= 6 * jnp.floor(place * (1 / 6))
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    return jnp.clip(jnp.stack([channel(5), channel(3), channel(1)], -1), 0, 1)


def posterize(image: Image, bits: Int[Array, ""] | int) -> Image:
    """Keeps the highest bits of the 8-bit levels.

    Args:
        image: (H, W, C) in [0, 1].
        bits: () how many, in [1, 8].

    Returns:
        (H, W, C) in [0, 1], of whole levels.
    """
    step = jnp.left_shift(jnp.int32(1), 8 - jnp.asarray(bits, jnp.int32))
    return _from_levels(_levels(image) & -step, image)


def solarize(image: Image, threshold: Factor) -> Image:
    """Inverts the pixels from a threshold in [0, 1] upwards."""
    return jnp.where(image < threshold, image, 1 - image)


def autocontrast(image: Image) -> Image:
    """Stretches each channel to the whole of [0, 1]; a channel of one value stays as it is."""
    low, high = (f(image, (0, 1), keepdims=True) for f in (jnp.min, jnp.max))
    span = high - low
    return jnp.where(span > 0, (image - low) / jnp.where(span > 0, span, 1), image)


def equalize(image: Image) -> Image:
    """Spreads each channel's 8-bit levels evenly, as Pillow does, in whole steps.

    Args:
        image: (H, W, C) in [0, 1].

    Returns:
        (H, W, C) in [0, 1], of whole levels; an image of fewer than 255 pixels stays as it is.
    """
    levels = _levels(image)

    def one(channel: Int[Array, "height width"]) -> Int[Array, "height width"]:
        counts = jnp.zeros(256, jnp.int32).at[channel].add(1)
        step = (channel.size - counts[jnp.max(channel)]) // 255
        below = jnp.cumsum(counts) - counts
        table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, table[channel], channel)

    return _from_levels(jax.vmap(one, -1, -1)(levels), image)


def luma(image: Image) -> Float[Array, "height width 1"]:
    """Grey by ITU-R 601-2, of three channels; the mean of any other number."""
    if image.shape[-1] != 3:
        return jnp.mean(image, -1, keepdims=True)
    # No matrix product, which an accelerator may compute in fewer bits.
    weights = jnp.array([0.299, 0.587, 0.114], image.dtype)
    return jnp.sum(image * weights, -1, keepdims=True)


def _blend(plain: Array, image: Image, factor: Factor) -> Image:
    """Moves from a plainer image (factor 0) through the image (1) and on."""
    return jnp.clip(plain + jnp.asarray(factor, image.dtype) * (image - plain), 0, 1)


def _levels(image: Image) -> Int[Array, "height width channels"]:
    return jnp.round(image * 255).astype(jnp.int32)


def _from_levels(levels: Int[Array, "height width channels"], image: Image) -> Image:
    return levels.astype(image.dtype) * (1 / 255)
