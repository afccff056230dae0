"""Distances between two sets of images, by the features of a network.

What a distance is worth depends on the features and on how many images there are of each set:
give both with it. The distance between two sets of real images is the floor that none should be
expected to pass.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Features = Float[np.ndarray, "images features"]
_ROWS = 1024


def frechet_distance(features: Features, reference: Float[np.ndarray, "references width"]) -> float:
    """The Fréchet distance between Gaussians fitted to two sets of features.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), in float64. With N images the fitted Gaussians are off
    by a bias that falls as 1/N, so that only distances of equal counts compare. It is called FID
    only with the features of one certain Inception network (Heusel et al., 2017).

    Args:
        features: (N, D) of one set, N at least 2.
        reference: (M, D) of the other, M at least 2.

    Returns:
        At least 0, up to rounding; 0 for equal means and covariances.

    Raises:
        ValueError: the widths differ, or a set has fewer than two images.
    """
    _check(features, reference)
    (mean, root), (other_mean, other_root) = (_moments(x) for x in (features, reference))
    # tr (C1 C2)^½ is the sum of the singular values of R1 R2' where C = R'R.
    shared = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    gap = np.square(mean - other_mean).sum()
    return float(gap + np.square(root).sum() + np.square(other_root).sum() - 2 * shared)


def kernel_distance(features: Features, reference: Float[np.ndarray, "references width"]) -> float:
    """The squared maximum mean discrepancy under the kernel (x·y / D + 1)³, unbiased.

    Bińkowski et al., "Demystifying MMD GANs", 2018, there with Inception's features. Over all
    pairs, so that its value is exact for the sets given.

    Args:
        features: (N, D) of one set, N at least 2.
        reference: (M, D) of the other, M at least 2.

    Returns:
        0 in expectation for two samples of one distribution, hence at times below 0.

    Raises:
        ValueError: the widths differ, or a set has fewer than two images.
    """
    _check(features, reference)
    within = [
        _kernel_sum(x, x, distinct=True) / (len(x) * (len(x) - 1)) for x in (features, reference)
    ]
    across = _kernel_sum(features, reference, distinct=False) / (len(features) * len(reference))
    return sum(within) - 2 * across


def _moments(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and a root R (min(N, D), D) of the covariance R'R."""
    rows = features.astype(np.float64)
    mean = rows.mean(0)
    rows = (rows - mean) / np.sqrt(len(rows) - 1)
    return mean, np.asarray(np.linalg.qr(rows, mode="r"))


def _kernel_sum(a: np.ndarray, b: np.ndarray, *, distinct: bool) -> float:
    """The kernel summed over all pairs; without the pairs of a row and itself if `distinct`."""
    width = a.shape[1]
    total = 0.0
    right = jnp.asarray(b, jnp.float32)
    for rows in _blocks(a):
        total += float(np.asarray(_kernel_rows(rows, right), np.float64).sum())
    if distinct:
        own = np.square(a.astype(np.float64)).sum(1) / width + 1
        total -= float((own**3).sum())
    return total


@jax.jit
def _kernel_rows(
    rows: Float[Array, "rows width"], right: Float[Array, "items width"]
) -> Float[Array, " rows"]:
    products = jnp.matmul(rows, right.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum((products / rows.shape[1] + 1) ** 3, 1)


def _blocks(rows: np.ndarray) -> Iterator[Array]:
    for start in range(0, len(rows), _ROWS):
        yield jnp.asarray(rows[start : start + _ROWS], jnp.float32)


def _check(features: np.ndarray, reference: np.ndarray) -> None:
    if features.shape[1] != reference.shape[1] or min(len(features), len(reference)) < 2:
        raise ValueError(
            f"features have shapes {features.shape} and {reference.shape}; two rows or more of "
            "one width are needed in each"
        )
