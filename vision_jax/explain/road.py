"""ROAD: remove pixels so that the hole tells nothing, then compare what a map calls most and least.

Rong et al., "A consistent and efficient evaluation strategy for attribution methods", 2022.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from vision_jax.errors import InputError
from vision_jax.explain.curves import Images, Maps, Score, check_maps, ranks

FRACTIONS = (0.1, 0.3, 0.5)
NOISE = 0.01
_TOLERANCE = 1e-4
_MOST_STEPS = 2000
_AT_ONCE = 16
_NEAR, _DIAGONAL = 1 / 6, 1 / 12
_NEIGHBOURS = [
    (down, across, _DIAGONAL if down and across else _NEAR)
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if down or across
]

Planes = Float[Array, "images height width channels"]


def road(
    score: Score,
    images: Images,
    maps: Maps,
    *,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = NOISE,
    seed: int = 0,
) -> Float[np.ndarray, " images"]:
    """Measure how much more the pixels that a map marks most matter than those it marks least.

    Args:
        score: what the maps explain, such as a class's probability.
        images: (N, H, W, C) in [0, 1].
        maps: (N, H, W).
        fractions: of the pixels that are removed, in (0, 1); the result is the average over them.
        noise: standard deviation of what is added to removed pixels.
        seed: of the noise, and of the order of pixels whose values are equal.

    Returns:
        (N,) the score without the least important pixels less that without the most important
        ones: above 0 for a good map.

    Raises:
        InputError: shapes or values do not fit.
    """
    check_maps(images, maps)
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        raise InputError(f"fractions are {tuple(fractions)}; some in (0, 1) are needed")
    order, rows = ranks(maps, seed), np.arange(len(maps))
    pixels = maps[0].size if len(maps) else 1

    def without(removed: Bool[np.ndarray, "images height width"]) -> np.ndarray:
        return score(impute(images, removed, noise=noise, seed=seed), rows)

    gaps = []
    for fraction in fractions:
        count = round(fraction * pixels)
        gaps.append(without(order >= pixels - count) - without(order < count))
    return np.stack(gaps).mean(0, np.float64)


def impute(
    images: Images,
    removed: Bool[np.ndarray, "images height width"],
    *,
    noise: float = NOISE,
    seed: int = 0,
) -> Images:
    """Fill in removed pixels by noisy linear imputation.

    A removed pixel becomes the weighted mean of its eight neighbours, of which those beside it
    weigh twice as much as the diagonal ones; neighbours that are removed, too, make a system of
    linear equations, which is solved by conjugate gradients.

    Args:
        images: (N, H, W, C) in [0, 1].
        removed: (N, H, W) True where a pixel is removed; not all of an image.
        noise: standard deviation of what is added to removed pixels.
        seed: of the noise.

    Returns:
        (N, H, W, C); the other pixels are as they were.

    Raises:
        InputError: an image has no pixel left.
    """
    if removed.all((1, 2)).any():
        raise InputError("all pixels of an image are removed; at least 1 must remain")
    parts = [
        np.asarray(_solve(*(jnp.asarray(x[i : i + _AT_ONCE]) for x in (images, removed))))
        for i in range(0, len(images), _AT_ONCE)
    ]
    drawn = np.random.default_rng(seed).normal(0, noise, images.shape)
    filled = np.concatenate(parts) + drawn if parts else images
    return np.where(removed[..., None], filled, images).astype(np.float32)


@jax.jit
def _solve(images: Planes, removed: Bool[Array, "images height width"]) -> Planes:
    """Solve for the removed pixels; all images and channels are one system."""
    hole = removed[..., None].astype(images.dtype)
    around = _neighbours(jnp.ones_like(hole))

    def residual(x: Planes) -> Planes:
        return hole * (around * x - _neighbours(hole * x))

    known = hole * _neighbours((1 - hole) * images)
    solution: Planes
    solution, _ = jax.scipy.sparse.linalg.cg(residual, known, tol=_TOLERANCE, maxiter=_MOST_STEPS)
    return solution


def _neighbours(x: Planes) -> Planes:
    """Add up the eight neighbours of each pixel by their weights."""
    height, width = x.shape[1:3]
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = jnp.zeros_like(x)
    for down, across, weight in _NEIGHBOURS:
        rows, columns = slice(1 + down, 1 + down + height), slice(1 + across, 1 + across + width)
        total += jnp.asarray(weight, x.dtype) * wide[:, rows, columns]
    return total
