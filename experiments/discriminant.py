"""The linear discriminant that experiments put on top of frozen vectors."""

import numpy as np


def inverse_root(covariance: np.ndarray, strength: float) -> np.ndarray:
    """Return the matrix that shrinks directions by how much they vary within classes.

    Vectors times this matrix have about the same variance within classes in every direction
    (Fisher, "The use of multiple measurements in taxonomic problems", 1936).

    Args:
        covariance: (D, D) within classes.
        strength: at least 0; the identity is added, times this and the mean variance.

    Returns:
        (D, D) the inverse square root.
    """
    values, directions = np.linalg.eigh(covariance)
    values = values + strength * values.mean()
    return np.asarray(directions / np.sqrt(values) @ directions.T, np.float32)
