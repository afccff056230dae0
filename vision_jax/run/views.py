"""Several views of an image, whose embeddings are averaged."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, UInt8

from vision_jax.errors import InputError

Views = Literal[1, 2, 5, 10]
KEPT = 0.875
"""Share of either side that a crop keeps."""


def check_views(views: int) -> None:
    """Refuse a number of views that there is no way to take.

    Raises:
        InputError: it is not 1, 2, 5 or 10.
    """
    if views not in get_args(Views):
        raise InputError(f"views is {views!r}; it must be one of 1, 2, 5, 10")


def take_views(
    images: Float[np.ndarray, "batch height width channels"]
    | UInt8[np.ndarray, "batch height width channels"],
    views: int,
) -> Iterator[Float[np.ndarray, "batch height width channels"]]:
    """Give views of images, one after the other.

    Args:
        images: (B, H, W, C), uint8 in [0, 255] or floats in [0, 1].
        views: 2: the image and its mirror image. 5: its centre and its four corners, seven eighths
            of either side each, enlarged to the image's size (bilinear). 10: these and their mirror
            images, as in Krizhevsky et al., "ImageNet classification with deep convolutional
            neural networks", 2012.

    Yields:
        (B, H, W, C) float32 in [0, 1].
    """
    pixels = images.astype(np.float32)
    if images.dtype == np.uint8:
        pixels /= 255
    for view in _crops(pixels) if views in (5, 10) else [pixels]:
        yield view
        if views in (2, 10):
            yield np.ascontiguousarray(view[:, :, ::-1])


def averaged(
    mapped: Callable[[Any, Any], np.ndarray], views: int
) -> Callable[[Any, Any], np.ndarray]:
    """Return a function that averages what another makes of several views.

    Args:
        mapped: `(state, (images,)) -> vectors`.
        views: see `take_views`; 1 changes nothing.

    Returns:
        A function of the same arguments, whose vectors are the mean direction of the views' and
        have length 1: NaN where one of them is NaN, zero where they cancel out.
    """
    if views == 1:
        return mapped

    def compute(state: Any, rows: Any) -> np.ndarray:
        (images,) = rows
        return _unit(
            np.sum([_unit(mapped(state, (view,))) for view in take_views(images, views)], 0)
        )

    return compute


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _crops(images: np.ndarray) -> Iterator[np.ndarray]:
    height, width = images.shape[1:3]
    high, wide = (max(1, round(KEPT * side)) for side in (height, width))
    bottom, right = height - high, width - wide
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    for top, left in [(bottom // 2, right // 2), *corners]:
        down, across = _enlarging(high, height), _enlarging(wide, width)
        cut = images[:, top : top + high, left : left + wide]
        yield np.einsum("ri,bijc,sj->brsc", down, cut, across, optimize=True)


def _enlarging(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Return what each old pixel gives to each new one in bilinear interpolation."""
    places = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    distances = np.abs(places[:, None] - np.arange(old))
    return np.maximum(1 - distances, 0).astype(np.float32)
