"""Boxes on images: in pixels or fractions, on the original or on what a network sees of it."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vision_jax.errors import InputError

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1): left, top, right and bottom edge."""
Mask = Float[np.ndarray, "height width"]
BoxLike = Sequence[int | float]
"""Four such edges, to be checked."""


def pixel_box(box: BoxLike, size: tuple[int, int], *, name: str = "box") -> Box:
    """Check a box and express it in pixels.

    Args:
        box: (x0, y0, x1, y1) from the top left corner: fractions of the image if none is above 1,
            else pixels.
        size: (width, height) of the image.
        name: what to call the box in messages.

    Returns:
        The box in pixels.

    Raises:
        InputError: it is empty, or reaches beyond the image.
    """
    width, height = size
    if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
        raise InputError(f"{name} is {_told(box)}; 4 numbers are needed: x0 y0 x1 y1")
    scale = (width, height, width, height) if max(box) <= 1 else (1, 1, 1, 1)
    x0, y0, x1, y1 = (float(edge * factor) for edge, factor in zip(box, scale, strict=True))
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise InputError(
            f"{name} is {_told(box)}; 0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height} are "
            "needed, in pixels of the image, or fractions in [0, 1]"
        )
    return x0, y0, x1, y1


def region_weights(
    region: BoxLike | Mask, size: tuple[int, int], grid: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """Compute how much of each cell of a grid over an image belongs to a region.

    Args:
        region: a box, see `pixel_box`; or (height, width) weights of the pixels in [0, 1].
        size: (width, height) of the image.
        grid: (rows, columns) of cells of equal size that tile it.

    Returns:
        (rows, columns) shares in [0, 1], some above 0.

    Raises:
        InputError: the box is empty or reaches beyond the image, or the weights have another shape
            or are all 0.
    """
    if not isinstance(region, np.ndarray):
        return _box_weights(pixel_box(region, size), size, grid)
    if region.shape != size[::-1] or not (region.min() >= 0 and region.max() > 0):
        raise InputError(
            f"box is an array of shape {region.shape} with values in [{region.min():g}, "
            f"{region.max():g}]; shape {size[::-1]} and values of at least 0, some above, are "
            "needed"
        )
    return _mask_weights(region, grid)


def _box_weights(
    box: Box, size: tuple[int, int], grid: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    shares = [
        np.clip(np.minimum(stop, edges[1:]) - np.maximum(start, edges[:-1]), 0, None) / edges[1]
        for start, stop, edges in (
            (box[1], box[3], np.linspace(0, size[1], grid[0] + 1)),
            (box[0], box[2], np.linspace(0, size[0], grid[1] + 1)),
        )
    ]
    return np.outer(*shares)


def _mask_weights(mask: Mask, grid: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    """Average a mask over each cell of a grid."""
    rows, columns = (
        np.stack(
            [_covered(i * length / cells, (i + 1) * length / cells, length) for i in range(cells)]
        )
        for length, cells in zip(mask.shape, grid, strict=True)
    )
    return rows @ mask @ columns.T


def _covered(start: float, stop: float, length: int) -> Float[np.ndarray, " pixels"]:
    """Return each pixel's share of a stretch of a line of pixels; they add up to 1."""
    places = np.arange(length)
    covered = np.clip(np.minimum(stop, places + 1) - np.maximum(start, places), 0, None)
    return covered / (stop - start)


def _told(box: BoxLike) -> str:
    return " ".join(f"{edge:g}" for edge in box)
