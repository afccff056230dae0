"""The linear discriminant that experiments put on top of frozen vectors."""

from collections.abc import Sequence

import numpy as np


def inverse_roots(covariance: np.ndarray, strengths: Sequence[float]) -> list[np.ndarray]:
    """Return matrices that shrink directions by how much they vary within classes.

    Vectors times such a matrix have about the same variance within classes in every direction
    (Fisher, "The use of multiple measurements in taxonomic problems", 1936).

    Args:
        covariance: (D, D) within classes.
        strengths: at least 0; the identity is added, times this and the mean variance.

    Returns:
        For each strength the inverse square root (D, D).
    """
    values, directions = np.linalg.eigh(covariance)
    scales = [np.sqrt(values + strength * values.mean()) for strength in strengths]
    return [np.asarray(directions / scale @ directions.T, np.float32) for scale in scales]
