"""Position embeddings of a grid of patches, resampled to the grid of another image size."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Resampling = Literal["antialias", "bicubic", "dinov2"]

_OFFSET = 0.1


def resample_positions(
    positions: Float[Array, "1 _ dim"],
    old: tuple[int, int],
    new: tuple[int, int],
    resampling: Resampling = "antialias",
) -> Float[Array, "1 _ dim"]:
    """Interpolate position embeddings to another grid of patches.

    Libraries differ in how they do it, and by up to a tenth of an embedding: weights want the way
    of the library that they were made with.

    Args:
        positions: (1, rows * columns, D).
        old: Their rows and columns.
        new: Those of the result.
        resampling: "antialias" (timm's: bicubic with a = -0.5, widened where the grid shrinks),
            "bicubic" (Transformers': a = -0.75, not widened) or "dinov2" (the same at the scale of
            a grid that is larger by 0.1, as the original DINOv2 without registers).

    Returns:
        (1, rows * columns, D).
    """
    if old == new:
        return positions
    grid = positions.reshape(*old, -1)
    down, across = (
        jnp.asarray(_weights(*sizes, resampling), positions.dtype)
        for sizes in zip(old, new, strict=True)
    )
    highest = jax.lax.Precision.HIGHEST
    grid = jnp.einsum("ri,cj,ijd->rcd", down, across, grid, precision=highest)
    return grid.reshape(1, new[0] * new[1], -1)


def _weights(old: int, new: int, resampling: Resampling) -> Float[np.ndarray, "new old"]:
    """Return what each old place gives to each new one."""
    scale = old / (new + _OFFSET) if resampling == "dinov2" else old / new
    places = (np.arange(new) + 0.5) * scale - 0.5
    if resampling == "antialias":
        distances = (places[:, None] - np.arange(old)) / max(scale, 1.0)
        weights = _cubic(distances, -0.5)
        return weights / weights.sum(1, keepdims=True)
    taps = np.floor(places).astype(int)[:, None] + np.arange(-1, 3)
    weights = np.zeros((new, old))
    # What lies beyond an edge repeats the edge.
    rows = np.broadcast_to(np.arange(new)[:, None], taps.shape)
    np.add.at(weights, (rows, taps.clip(0, old - 1)), _cubic(places[:, None] - taps, -0.75))
    return weights


def _cubic(distances: Float[np.ndarray, "..."], a: float) -> Float[np.ndarray, "..."]:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    x = np.abs(distances)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
