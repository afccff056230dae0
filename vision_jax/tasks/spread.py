"""How far embeddings spread over the sphere, and whether they have collapsed."""

from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from vision_jax.data.sources import evenly_spaced

_PAIRS = 2048
"""Vectors that uniformity compares with each other."""
LEAST_RANK, LEAST_DEVIATION = 1.5, 0.01
"""Below one of them embeddings count as collapsed: all alike, or along one line."""


def spread(
    vectors: Float[np.ndarray, "images dim"], labels: Integer[np.ndarray, " images"] | None = None
) -> dict[str, float]:
    """Measure how embeddings use their space.

    Args:
        vectors: (N, D) of any length; those of length 0, NaN or infinity are left out.
        labels: (N,) for `alignment`.

    Returns:
        `effective_rank`, the exponential of the entropy of the centred vectors' singular values
        (Roy and Vetterli, "The effective rank", 2007), in [1, D], and NaN below 3 vectors, 2
        dimensions or, with labels, 3 classes, which lie along a line at best; `deviation`, the mean
        over dimensions of the unit vectors' standard deviation, times √D, 0 if all are alike and 1
        if they fill the sphere (Chen and He, "SimSiam", 2021, section 4.1); `uniformity`, log mean
        exp(-2 d²) over pairs of 2,048, evenly spaced, at most 0 (Wang and Isola, "Understanding
        contrastive representation learning", 2020, equation 5); and with labels `alignment`, the
        mean d² of pairs of a class, in [0, 4] (equation 4). NaN where there is nothing to measure;
        but vectors that are all 0 have rank 1 and deviation 0, as those that are all alike.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    there = (lengths > 0) & np.isfinite(lengths)
    unit = vectors[there] / lengths[there, None]
    if len(unit) < 2:
        names = ["effective_rank", "deviation", "uniformity"]
        figures = dict.fromkeys(names + ([] if labels is None else ["alignment"]), float("nan"))
        dead = len(lengths) > 1 and not lengths.any()
        return figures | {"effective_rank": 1.0, "deviation": 0.0} if dead else figures
    centred = unit - unit.mean(0)
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred), 0))
    shares = singular / max(singular.sum(), np.finfo(float).tiny)
    shares = shares[shares > 0]
    some = unit[evenly_spaced(len(unit), _PAIRS)]
    squares = 2 - 2 * (some @ some.T)[np.triu_indices(len(some), 1)]
    classes = 3 if labels is None else len(np.unique(labels[there]))
    on_a_line = len(unit) < 3 or unit.shape[1] < 2 or classes < 3
    rank = float(np.exp(-np.sum(shares * np.log(shares))))
    figures = {
        "effective_rank": float("nan") if on_a_line else rank,
        "deviation": float(unit.std(0).mean() * np.sqrt(unit.shape[1])),
        "uniformity": float(np.log(np.mean(np.exp(-2 * squares)))),
    }
    if labels is not None:
        figures["alignment"] = _alignment(unit, labels[there])
    return figures


def _alignment(unit: np.ndarray, labels: np.ndarray) -> float:
    """Average the squared distance over all pairs of a class, by the classes' sums."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), unit.shape[1]))
    np.add.at(sums, classes, unit)
    # Over the pairs of n unit vectors d² adds up to n² - |sum|².
    squares = counts.astype(float) ** 2 - np.sum(sums**2, 1)
    pairs = np.sum(counts * (counts - 1) / 2)
    return float(squares.sum() / pairs) if pairs else float("nan")


def collapse(figures: dict[str, Any]) -> str | None:
    """Say in which way embeddings have collapsed; None if they have not.

    Args:
        figures: what `spread` returned.
    """
    if figures["deviation"] < LEAST_DEVIATION:
        return (
            f"all images have nearly the same embedding: its deviation is "
            f"{figures['deviation']:.2g}, below {LEAST_DEVIATION}"
        )
    if figures["effective_rank"] < LEAST_RANK:
        return (
            f"the embeddings lie along one line: their effective rank is "
            f"{figures['effective_rank']:.2g}, below {LEAST_RANK}"
        )
    return None
