"""One-dimensional convolutions with the fewest multiplications (Toom and Cook).

See Winograd, "Arithmetic Complexity of Computations", 1980.
"""

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import polynomial


def matrices(
    points: Sequence[int | float], results: int, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrices of a correlation as a product at points.

    The correlation is `to_results @ ((of_seen @ seen) * (of_weights @ weights))`. It is the
    transpose of a product of polynomials, evaluated at as many points as it has coefficients,
    infinity among them, and interpolated.

    Args:
        points: At least results + window - 2 different points, of which the first are used.
        results: Number of results.
        window: Number of weights.

    Returns:
        `of_seen` (n, n), `of_weights` (n, window) and `to_results` (results, n), where
        n = results + window - 1 is the number of products and of pixels seen.
    """
    points = points[: results + window - 2]
    infinity = np.eye(len(points) + 1)[-1]
    others = [[b for b in points if b != a] for a in points]
    scale = np.array(
        [np.prod([a - b for b in rest]) for a, rest in zip(points, others, strict=True)]
    )

    def powers(count: int) -> np.ndarray:
        return np.vander(np.array(points, float), count, increasing=True)

    of_seen = np.vstack(
        [
            *([*polynomial.polyfromroots(rest), 0] for rest in others),
            polynomial.polyfromroots(points),
        ]
    )
    of_weights = np.vstack([powers(window) / scale[:, None], infinity[-window:]])
    to_results = np.hstack([powers(results).T, infinity[-results:, None]])
    return of_seen, of_weights, to_results
