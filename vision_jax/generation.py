"""Latent vectors to generate images from, and images side by side."""

import math
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8
from PIL import Image

Pixels = UInt8[np.ndarray, "images height width channels"]
Sheet = UInt8[np.ndarray, "total_height total_width channels"]
Way = Literal["spherical", "linear"]


def sample_latents(key: Key[Array, ""], count: int, size: int) -> Float[Array, "count size"]:
    """Draws latents from the standard normal, the prior of the GAN and the variational autoencoder.

    Args:
        key: the source of randomness; a longer draw begins with the shorter one.
        count: how many.
        size: width of each.

    Returns:
        (count, size).
    """
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    return jax.vmap(lambda one: jax.random.normal(one, (size,)))(keys)


def interpolate(
    start: Float[Array, "pairs size"],
    stop: Float[Array, "pairs width"],
    steps: int,
    *,
    way: Way = "spherical",
) -> Float[Array, "pairs steps size"]:
    """Walks from one latent to another in even steps.

    Args:
        start: (P, D) where each walk begins.
        stop: (P, D) where it ends.
        steps: points on each walk, both ends included; at least 2.
        way: `spherical` keeps to the lengths that a normal prior gives (White, "Sampling
            generative networks", 2016); `linear` suits codes that have no prior.

    Returns:
        (P, steps, D).

    Raises:
        ValueError: the shapes differ, or `steps` is below 2.
    """
    if start.shape != stop.shape:
        raise ValueError(f"start and stop have shapes {start.shape} and {stop.shape}; equal needed")
    if steps < 2:
        raise ValueError(f"steps is {steps}; it must be at least 2")
    t = jnp.linspace(0.0, 1.0, steps, dtype=start.dtype)[None, :, None]
    a, b = start[:, None], stop[:, None]
    if way == "linear":
        return (1 - t) * a + t * b
    norms = jnp.linalg.norm(a, axis=-1, keepdims=True) * jnp.linalg.norm(b, axis=-1, keepdims=True)
    cosine = jnp.sum(a * b, -1, keepdims=True) / jnp.where(norms > 0, norms, 1)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    sine = jnp.sin(angle)
    # Along one line there is no arc: neither for equal nor for opposite directions.
    arc = sine > 1e-3
    safe = jnp.where(arc, sine, 1)
    left = jnp.where(arc, jnp.sin((1 - t) * angle) / safe, 1 - t)
    right = jnp.where(arc, jnp.sin(t * angle) / safe, t)
    return left * a + right * b


def to_pixels(images: Float[Array | np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Images in [0, 1] as uint8 in [0, 255], rounded; what lies outside is clipped."""
    return np.rint(np.clip(np.asarray(images), 0, 1) * 255).astype(np.uint8)


def tile(
    images: Pixels,
    *,
    columns: int | None = None,
    gap: int = 1,
) -> Sheet:
    """Lays images out in rows, on white.

    Args:
        images: (N, H, W, C) uint8, N at least 1.
        columns: images in a row; by default as many as make a square.
        gap: white pixels between images.

    Returns:
        One image of the same channels, row by row from the top left.

    Raises:
        ValueError: no images, or no columns.
    """
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    if count < 1 or columns < 1:
        raise ValueError(f"{count} images in {columns} columns; at least 1 of each is needed")
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + gap, width + gap, channels), 255, np.uint8)
    cells[:count, :height, :width] = images
    sheet = cells.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + gap), columns * (width + gap), channels)
    return sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]


def pair_sheet(above: Pixels, below: Pixels) -> Sheet:
    """Lays out a row of images, and under each one the image that belongs to it."""
    return tile(np.concatenate([above, below]), columns=len(above))


def enlarged(sheet: Sheet) -> Image.Image:
    """A sheet as a picture whose longer side has at least about 500 pixels, sharp-edged."""
    factor = max(1, round(500 / max(sheet.shape[:2])))
    image = Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet)
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.NEAREST)


def save_sheet(path: Path, sheet: Sheet) -> None:
    """Writes a sheet as PNG, enlarged if it is small."""
    enlarged(sheet).save(path)
