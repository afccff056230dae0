"""Images that a data set holds more than once, exactly or nearly."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, Shaped

from vision_jax.search import near_duplicates


@dataclasses.dataclass(frozen=True)
class Copies:
    """A group of images that are the same, or nearly.

    Attributes:
        rows: which images, at least 2, ascending.
        cosines: the cosine of each with the first, in [-1, 1].
        across_labels: whether they have different labels.
        across_splits: whether they are in different splits.
    """

    rows: tuple[int, ...]
    cosines: tuple[float, ...]
    across_labels: bool
    across_splits: bool


def find_copies(
    digests: Sequence[bytes],
    vectors: Float[np.ndarray, "images dim"],
    threshold: float,
    *,
    splits: Shaped[np.ndarray, " images"],
    labels: Integer[np.ndarray, " images"] | None = None,
) -> tuple[list[Copies], list[Copies]]:
    """Group the images that are the same, and those that are nearly the same.

    Args:
        digests: equal for equal images alone.
        vectors: (N, D), compared by their cosine; rows that are zero, NaN or infinite are near
            nothing.
        threshold: cosine from which two images are nearly the same, in (0, 1].
        splits: (N,) the split of each image.
        labels: (N,) the label of each image.

    Returns:
        (exact, near), each with groups of different labels first, then those across splits, then
        the larger ones. A group whose images are all equal is in `exact` only.
    """
    vectors = np.where(np.isfinite(vectors).all(1, keepdims=True), vectors, np.float32(0))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)

    def copies(rows: Sequence[int], *, equal: bool = False) -> Copies:
        chosen = list(rows)
        likeness = np.ones(len(chosen)) if equal else unit[chosen] @ unit[chosen[0]]
        return Copies(
            tuple(chosen),
            tuple(likeness.tolist()),
            labels is not None and len(np.unique(labels[chosen])) > 1,
            len(np.unique(splits[chosen])) > 1,
        )

    same = defaultdict(list)
    for row, digest in enumerate(digests):
        same[digest].append(row)
    exact = [copies(rows, equal=True) for rows in same.values() if len(rows) > 1]
    near = [
        copies(group.rows.tolist())
        for group in near_duplicates(vectors, threshold)
        if len({digests[row] for row in group.rows}) > 1
    ]
    return _worst_first(exact), _worst_first(near)


def _worst_first(groups: list[Copies]) -> list[Copies]:
    return sorted(
        groups,
        key=lambda g: (not g.across_labels, not g.across_splits, -len(g.rows), g.rows[0]),
    )
