"""Images side by side in one picture, and arrays as Pillow images."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from vision_jax.data.encode import to_pil
from vision_jax.errors import InputError
from vision_jax.files import replacing

Pixels = UInt8[np.ndarray, "images height width channels"]
Grid = UInt8[np.ndarray, "total_height total_width channels"]

_SIDE = 500  # pixels that the longer side of a saved grid has at least, about


def to_pixels(images: Float[Array | np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Convert floats in [0, 1] to uint8 in [0, 255], rounded; values outside are clipped.

    Args:
        images: any shape.

    Returns:
        The same shape.

    Raises:
        InputError: a value is NaN.
    """
    values = np.asarray(images)
    if unknown := int(np.isnan(values).sum()):
        raise InputError(f"{unknown} of {values.size} pixel values are NaN; numbers are needed")
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def tile(images: Pixels, *, columns: int | None = None, gap: int = 1) -> Grid:
    """Lay images out in rows, on white.

    Args:
        images: (N, H, W, C) uint8, N at least 1.
        columns: images in a row; by default as many as make a square.
        gap: white pixels between images.

    Returns:
        One image of the same channels, filled row by row from the top left.

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
    grid = cells.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * (height + gap), columns * (width + gap), channels)
    return grid[: grid.shape[0] - gap, : grid.shape[1] - gap]


def pair_grid(above: Pixels, below: Pixels) -> Grid:
    """Lay out a row of images, with the partner of each one below it."""
    return tile(np.concatenate([above, below]), columns=len(above))


def enlarge(grid: Grid) -> Image.Image:
    """Enlarge a small grid by a whole factor to about 500 pixels, without blurring its pixels."""
    factor = max(1, round(_SIDE / max(grid.shape[:2])))
    image = to_pil(grid)
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.NEAREST)


def save_grid(path: Path, grid: Grid) -> None:
    """Write a grid as PNG, enlarged if it is small."""
    with replacing(path) as temporary:
        enlarge(grid).save(temporary, "PNG")
