"""Transforms of NHWC float images in [0, 1]: pure, jittable, `key` first where they are random.

A random transform takes one key per image, so that an image's fate depends neither on its
neighbours nor on how many devices share the batch.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

Images = Float[Array, "batch height width channels"]
Resized = Float[Array, "batch new_height new_width channels"]


def per_example_keys(key: Key[Array, ""], first: Array | int, count: int) -> Key[Array, " count"]:
    """One key per image, by its place in the whole batch.

    Args:
        key: the step's key.
        first: place of the first image in the whole batch, () integer.
        count: images here.

    Returns:
        (count,) keys; the same whether the batch is on one device or on many.
    """
    places = jnp.asarray(first, jnp.int32) + jnp.arange(count, dtype=jnp.int32)
    return jax.vmap(partial(jax.random.fold_in, key))(places)


def resize(images: Images, size: tuple[int, int]) -> Resized:
    """Resizes bilinearly, with antialiasing when it shrinks.

    Args:
        images: (B, H, W, C) in [0, 1].
        size: (height, width) wanted.

    Returns:
        (B, height, width, C) in [0, 1].
    """
    shape = (images.shape[0], *size, images.shape[-1])
    return jax.image.resize(images, shape, "bilinear", antialias=True)


def center_crop(images: Images, size: tuple[int, int]) -> Resized:
    """Cuts out the centre.

    Args:
        images: (B, H, W, C).
        size: (height, width) wanted, at most (H, W).

    Returns:
        (B, height, width, C); an odd rest leaves the extra row below and column to the right.

    Raises:
        ValueError: `size` exceeds the images.
    """
    top, left = _margins(images, size)
    return images[:, top // 2 : top // 2 + size[0], left // 2 : left // 2 + size[1]]


def random_crop(keys: Key[Array, " batch"], images: Images, size: tuple[int, int]) -> Resized:
    """Cuts out a window whose corner is uniform over all that fit.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).
        size: (height, width) wanted, at most (H, W).

    Returns:
        (B, height, width, C).

    Raises:
        ValueError: `size` exceeds the images.
    """
    top, left = _margins(images, size)

    def corner(key: Key[Array, ""]) -> Array:
        return jax.random.randint(key, (2,), 0, jnp.array([top + 1, left + 1]))

    def cut(image: Array, start: Array) -> Array:
        zero = jnp.zeros((), start.dtype)
        return jax.lax.dynamic_slice(image, (start[0], start[1], zero), (*size, image.shape[-1]))

    return jax.vmap(cut)(images, jax.vmap(corner)(keys))


def pad_and_crop(keys: Key[Array, " batch"], images: Images, pad: int) -> Images:
    """Pads by reflection and crops at random back to the size: shifts of up to `pad` pixels.

    The usual augmentation of small images (He et al., 2016, section 4.2, there with zeros).

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).
        pad: pixels on every side, less than H and W.

    Returns:
        (B, H, W, C).

    Raises:
        ValueError: `pad` is not below the images' height and width.
    """
    if not 0 <= pad < min(images.shape[1:3]):
        raise ValueError(f"pad is {pad}; it must be in [0, {min(images.shape[1:3])})")
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    return random_crop(keys, padded, (images.shape[1], images.shape[2]))


def random_flip(keys: Key[Array, " batch"], images: Images) -> Images:
    """Mirrors each image left to right with probability one half.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).

    Returns:
        (B, H, W, C).
    """
    flip: Bool[Array, " batch"] = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


def normalize(images: Images, mean: Sequence[float], std: Sequence[float]) -> Images:
    """Subtracts the mean and divides by the deviation.

    Args:
        images: (B, H, W, C) in [0, 1].
        mean: one value, or one per channel.
        std: one value above 0, or one per channel.

    Returns:
        (B, H, W, C).

    Raises:
        ValueError: `mean` or `std` has neither 1 nor C values.
    """
    channels = images.shape[-1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ValueError(f"{name} has {len(values)} values; 1 or {channels} are needed")
    return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)


def augment(
    key: Key[Array, ""], images: Images, first: Array | int = 0, *, flip: bool, pad_crop: int
) -> Images:
    """Applies the chosen random transforms.

    Args:
        key: the step's key.
        images: (B, H, W, C) in [0, 1].
        first: place of the first image in the whole batch.
        flip: mirror half of the images.
        pad_crop: pixels for `pad_and_crop`; 0 for none.

    Returns:
        (B, H, W, C) in [0, 1].
    """
    keys = per_example_keys(key, first, len(images))
    crop_keys, flip_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    if pad_crop:
        images = pad_and_crop(crop_keys, images, pad_crop)
    if flip:
        images = random_flip(flip_keys, images)
    return images


def _margins(images: Images, size: tuple[int, int]) -> tuple[int, int]:
    height, width = images.shape[1:3]
    if not (0 < size[0] <= height and 0 < size[1] <= width):
        raise ValueError(f"size is {size}; it must be within the images' {(height, width)}")
    return height - size[0], width - size[1]
