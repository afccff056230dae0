"""Distances between two sets of images, by the features of a network.

A distance depends on the features and on how many images each set holds: state both with it. The
distance between two sets of real images is the floor to compare with.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from vision_jax.errors import InputError

Features = Float[np.ndarray, "images features"]
_ROWS = 1024


def frechet_distance(features: Features, reference: Float[np.ndarray, "references width"]) -> float:
    """Compute the Fréchet distance between Gaussians fitted to two sets of features.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), in float64. The fit to N images is biased by about 1/N,
    so compare only distances of equal counts. It is called FID only with the features of one
    specific Inception network (Heusel et al., "GANs trained by a two time-scale update rule",
    2017).

    Args:
        features: (N, D) of one set, N at least 2.
        reference: (M, D) of the other, M at least 2.

    Returns:
        At least 0, up to rounding; 0 for equal means and covariances.

    Raises:
        InputError: the widths differ, a set has fewer than two images, or a feature is NaN or
            infinite.
    """
    _check(features, reference)
    (mean, root), (other_mean, other_root) = (_moments(x) for x in (features, reference))
    # tr (C1 C2)^½ is the sum of the singular values of R1 R2' where C = R'R.
    shared = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    gap = np.square(mean - other_mean).sum()
    return float(gap + np.square(root).sum() + np.square(other_root).sum() - 2 * shared)


def kernel_distance(features: Features, reference: Float[np.ndarray, "references width"]) -> float:
    """Estimate the squared maximum mean discrepancy under the kernel (x·y / D + 1)³.

    The unbiased estimate over all pairs, in float64, whatever the features' mean and scale
    (Bińkowski et al., "Demystifying MMD GANs", 2018, there with Inception's features).

    Args:
        features: (N, D) of one set, N at least 2.
        reference: (M, D) of the other, M at least 2.

    Returns:
        0 in expectation for two samples of one distribution, so sometimes below 0.

    Raises:
        InputError: the widths differ, a set has fewer than two images, or a feature is NaN or
            infinite.
    """
    _check(features, reference)
    within = [
        _kernel_sum(x, x, distinct=True) / (len(x) * (len(x) - 1)) for x in (features, reference)
    ]
    across = _kernel_sum(features, reference, distinct=False) / (len(features) * len(reference))
    return sum(within) - 2 * across


def _moments(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean, and a root R (min(N, D), D) of the covariance R'R."""
    rows = features.astype(np.float64)
    mean = rows.mean(0)
    rows = (rows - mean) / np.sqrt(len(rows) - 1)
    return mean, np.asarray(np.linalg.qr(rows, mode="r"))


def _kernel_sum(a: np.ndarray, b: np.ndarray, *, distinct: bool) -> float:
    """Sum the kernel less 1 over all pairs; without pairs of a row and itself if `distinct`."""
    width, total = a.shape[1], 0.0
    right = b.astype(np.float64).T
    for rows in _blocks(a):
        total += _less_one(rows @ right / width).sum()
        if distinct:
            total -= _less_one(np.square(rows).sum(1) / width).sum()
    return float(total)


def _less_one(products: np.ndarray) -> np.ndarray:
    """Compute (s + 1)³ - 1.

    The 1 cancels in the discrepancy; adding it would round off features much smaller than 1.
    """
    return products * (products * (products + 3) + 3)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS].astype(np.float64)


def _check(features: np.ndarray, reference: np.ndarray) -> None:
    if features.shape[1] != reference.shape[1] or min(len(features), len(reference)) < 2:
        raise InputError(
            f"features and reference have shapes {features.shape} and {reference.shape}; two rows "
            "or more of the same width are needed in each"
        )
    for name, rows in (("features", features), ("reference", reference)):
        bad = np.flatnonzero(~np.isfinite(rows).all(1))
        if len(bad):
            raise InputError(
                f"{name} has {len(bad)} of {len(rows)} rows with NaN or infinity, the first at "
                f"{bad[:5].tolist()}; finite features are needed"
            )
