"""One query made of examples: what it should be like, and what not."""

import math

import numpy as np
from jaxtyping import Float

from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike

WEIGHT = 0.5
_NOTHING = 1e-4  # length up to which what is left may be rounding


def combine_examples(
    likes: ArrayLike, unlikes: ArrayLike | None = None, *, weight: float = WEIGHT
) -> Float[np.ndarray, " dim"]:
    """Combine vectors to one query: mean of the likes less `weight` times mean of the unlikes.

    q = m / |m|, where m = mean(l / |l|) - weight * mean(u / |u|). This is the feedback of Rocchio,
    "Relevance feedback in information retrieval", 1971, without a first query.

    Args:
        likes: (L, D) real numbers, at least one row; none zero, NaN or infinite.
        unlikes: (U, D) of the same kind; U may be 0.
        weight: At least 0; with 0 the unlikes do not count.

    Returns:
        (D,) float32 of length 1.

    Raises:
        InputError: If there are no likes, a row has no direction, the widths differ, weight is
            negative, NaN or infinite, or likes and unlikes cancel out.

    >>> from vision_jax.search import combine_examples
    >>> combine_examples([[2, 0, 0], [0, 5, 0]], [[0, 1, 0]], weight=1.0).round(3)
    array([ 0.707, -0.707,  0.   ], dtype=float32)
    """
    check_weight(weight)
    rows = arrays.vectors("likes", likes)
    if not len(rows):
        raise InputError("there are 0 likes; at least 1 is needed")
    mean = _mean("likes", rows, rows.shape[1])
    if unlikes is not None and len(unlikes):
        mean = mean - weight * _mean("unlikes", unlikes, rows.shape[1])
    length = float(np.linalg.norm(mean))
    if length < _NOTHING:
        raise InputError(
            f"the likes less {weight} times the unlikes cancel out: what is left has length "
            f"{length:.1g}; other examples or another weight are needed"
        )
    return (mean / length).astype(np.float32)


def check_weight(weight: float) -> None:
    """Refuse a weight of the unlikes that is negative, NaN or infinite.

    Raises:
        InputError: If it is.
    """
    if not 0 <= weight < math.inf:
        raise InputError(f"weight is {weight}; a finite number of at least 0 is needed")


def _mean(name: str, value: ArrayLike, dim: int) -> Float[np.ndarray, " dim"]:
    """Average the directions of rows, in float64."""
    rows = arrays.directions(name, value, dim).astype(np.float64)
    return np.asarray((rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0))
