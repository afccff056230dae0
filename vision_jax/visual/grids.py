"""Latent vectors to generate images from, and images side by side."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

Pixels = UInt8[np.ndarray, "images height width channels"]
Sheet = UInt8[np.ndarray, "total_height total_width channels"]


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
