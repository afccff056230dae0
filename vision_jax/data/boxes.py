"""Boxes on images: in pixels or fractions, on the original or on what a network sees of it."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vision_jax.errors import InputError

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1): left, top, right and bottom edge."""
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


def seen_box(box: Box, seen: Box, side: int, *, name: str = "box") -> Box:
    """Carry a box of an original image over to the square that was cut out and scaled.

    Args:
        box: in pixels of the original.
        seen: the part of the original that was kept, see `decode.kept_part`.
        side: of the square, in pixels.
        name: what to call the box in messages.

    Returns:
        The box in pixels of the square, cut at its edges.

    Raises:
        InputError: nothing of the box was kept.
    """
    left, top, right, bottom = seen
    across, down = side / (right - left), side / (bottom - top)
    x0, x1 = (min(max((x - left) * across, 0.0), side) for x in (box[0], box[2]))
    y0, y1 = (min(max((y - top) * down, 0.0), side) for y in (box[1], box[3]))
    if x1 <= x0 or y1 <= y0:
        raise InputError(
            f"{name} is {_told(box)}; the network sees {_told(seen)} of the image, of which a part "
            "is needed"
        )
    return x0, y0, x1, y1


def box_weights(
    box: Box, size: tuple[int, int], grid: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """Compute how much of each cell of a grid over an image lies under a box.

    Args:
        box: in pixels of the image.
        size: (width, height) of the image.
        grid: (rows, columns) of cells of equal size that tile it.

    Returns:
        (rows, columns) shares in [0, 1], some above 0.
    """
    covered = [
        np.clip(
            np.minimum(stop, (np.arange(cells) + 1) * length / cells)
            - np.maximum(start, np.arange(cells) * length / cells),
            0,
            None,
        )
        / (length / cells)
        for start, stop, length, cells in (
            (box[1], box[3], size[1], grid[0]),
            (box[0], box[2], size[0], grid[1]),
        )
    ]
    return np.outer(*covered)


def _told(box: BoxLike) -> str:
    return " ".join(f"{edge:g}" for edge in box)
