"""Small pictures of originals for people to look at, and a placeholder for what is gone."""

import os
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from vision_jax.data.decode import BadImageError, read_image
from vision_jax.data.resize import WITHIN
from vision_jax.data.sources import Source

SIDE = 240
"""Pixels of the longer side at most."""
_PLACEHOLDER = (90, 120)  # height, width
_GROUND, _LINES = 236, 176


class Thumbnail(NamedTuple):
    """A picture to show.

    Attributes:
        pixels: (height, width, channels) uint8: the whole picture, upright, in its proportions.
            Where it could not be read, a crossed grey rectangle.
        fault: what is wrong with it, as a predicate such as "does not exist"; None if nothing is.
    """

    pixels: UInt8[np.ndarray, "height width channels"]
    fault: str | None = None


def source_thumbnail(source: Source, index: int, *, side: int = SIDE) -> Thumbnail:
    """Read the original of a source's image.

    Args:
        source: the images.
        index: a position in [0, len(source)).
        side: pixels of the longer side at most; a smaller image keeps its size.

    Returns:
        The picture, or a placeholder if it can no longer be read.
    """
    try:
        return Thumbnail(source.picture(index, side=side))
    except BadImageError as error:
        return placeholder(error.reason)


def file_thumbnail(file: str | os.PathLike[str] | bytes, *, side: int = SIDE) -> Thumbnail:
    """Read an image file, or its bytes, as `source_thumbnail` does."""
    try:
        return Thumbnail(read_image(file, channels=3, size=side, resize=WITHIN, truncated="use"))
    except BadImageError as error:
        return placeholder(error.reason)


def file_name(key: str) -> str:
    """Return what a picture is called below it: the last part of a path; else the whole key."""
    return PurePath(key).name if PurePath(key).suffix else key


def placeholder(fault: str) -> Thumbnail:
    """Draw a crossed rectangle that stands for a picture.

    Args:
        fault: why there is none.
    """
    height, width = _PLACEHOLDER
    image = Image.new("L", (width, height), _GROUND)
    draw = ImageDraw.Draw(image)
    for line in ((0, 0, width, height), (0, height, width, 0)):
        draw.line(line, _LINES, 2)
    draw.rectangle((0, 0, width - 1, height - 1), outline=_LINES, width=2)
    return Thumbnail(np.asarray(image)[..., None], fault)
