"""Deletion and insertion: how a score changes as the pixels of a map go or come, best first.

Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", 2018.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy import ndimage

from vision_jax.checked import check_choice
from vision_jax.errors import InputError
from vision_jax.explain.checks import check_not_nan

Images = Float[np.ndarray, "images height width channels"]
# Of the images' number and size, which is checked.
Maps = Real[np.ndarray, "_ _ _"] | Bool[np.ndarray, "_ _ _"]
Score = Callable[[Images, Int[np.ndarray, " images"]], Float[np.ndarray, " images"]]
"""From altered images, and the place of each one's original, to what a map explains of it."""
_BASELINES = ("blur", "mean")
_BLUR = 0.1  # standard deviation, as a share of the longer side
STEPS = 20
_ROUNDING = 1e-3  # beyond [0, 1] that resizing may leave


class Curves(NamedTuple):
    """Scores along the way.

    Attributes:
        fractions: (S + 1,) of the pixels that are altered, from 0 to 1.
        scores: (N, S + 1) of each image.
    """

    fractions: Float[np.ndarray, " stops"]
    scores: Float[np.ndarray, "images stops"]

    @property
    def areas(self) -> Float[np.ndarray, " images"]:
        """(N,) areas under the curves, by the trapezoidal rule."""
        areas: np.ndarray = np.trapezoid(self.scores, self.fractions)
        return areas


def deletion(
    score: Score,
    images: Images,
    maps: Maps,
    *,
    baseline: str = "blur",
    steps: int = STEPS,
    seed: int = 0,
) -> Curves:
    """Delete pixels, those that a map marks most first; a good map has a small area.

    Args:
        score: what the maps explain, such as a class's probability.
        images: (N, H, W, C) in [0, 1].
        maps: (N, H, W).
        baseline: what pixels become: those of the blurred image, or the image's mean.
        steps: how many times pixels are deleted, as many each time.
        seed: of the order of pixels whose values are equal.

    Returns:
        The scores of images with 0 to all pixels deleted.

    Raises:
        InputError: shapes or values do not fit.
    """
    check_maps(images, maps)
    return _curves(score, images, replaced(images, baseline), maps, steps, seed)


def insertion(
    score: Score,
    images: Images,
    maps: Maps,
    *,
    baseline: str = "blur",
    steps: int = STEPS,
    seed: int = 0,
) -> Curves:
    """Insert pixels into a baseline, those that a map marks most first; a good map's area is large.

    Args:
        score: see `deletion`.
        images: (N, H, W, C) in [0, 1].
        maps: (N, H, W).
        baseline: see `deletion`.
        steps: how many times pixels are inserted, as many each time.
        seed: see `deletion`.

    Returns:
        The scores of baselines with 0 to all pixels inserted.

    Raises:
        InputError: shapes or values do not fit.
    """
    check_maps(images, maps)
    return _curves(score, replaced(images, baseline), images, maps, steps, seed)


def replaced(images: Images, baseline: str) -> Images:
    """Return what stands for images whose pixels are deleted.

    Raises:
        InputError: there is no such baseline.
    """
    check_choice(baseline, _BASELINES, "baseline")
    if baseline == "mean":
        return np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape)
    sigma = _BLUR * max(images.shape[1:3])
    blurred: np.ndarray = ndimage.gaussian_filter(images, (0, sigma, sigma, 0))
    return blurred


def ranks(maps: Maps, seed: int = 0) -> Int[np.ndarray, "images height width"]:
    """Rank each map's pixels, 0 for the highest; equal ones are ranked at random.

    Raises:
        InputError: a map holds NaN.
    """
    check_not_nan(maps)
    flat = maps.reshape(len(maps), -1).astype(np.float64)  # unsigned and bool have no negatives
    noise = np.random.default_rng(seed).random(flat.shape)
    order = np.lexsort((noise, -flat))
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(flat.shape[1])[None], 1)
    return places.reshape(maps.shape)


def check_maps(images: Images, maps: Maps) -> None:
    """Refuse images outside of [0, 1], and maps that are not of their number and size."""
    low, high = images.min(initial=0), images.max(initial=0)
    near = -_ROUNDING <= low <= high <= 1 + _ROUNDING
    if not np.issubdtype(images.dtype, np.floating) or not near:
        raise InputError(
            f"images are {images.dtype} from {low} to {high}; floats in [0, 1] are needed"
        )
    if maps.shape != images.shape[:3]:
        raise InputError(f"maps have shape {maps.shape}; {images.shape[:3]} is needed")


def _curves(
    score: Score, before: Images, after: Images, maps: Maps, steps: int, seed: int
) -> Curves:
    pixels = maps[0].size if len(maps) else 1
    if not 1 <= steps <= pixels:
        raise InputError(f"steps is {steps}; it must be in [1, {pixels}], the pixels of an image")
    order, rows = ranks(maps, seed), np.arange(len(maps))
    altered = np.round(np.linspace(0, pixels, steps + 1)).astype(int)
    scores = [score(np.where((order < count)[..., None], after, before), rows) for count in altered]
    return Curves(altered / pixels, np.stack(scores, 1).astype(np.float64))
