"""Near-duplicates: groups of vectors whose cosines reach a threshold."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from vision_jax.search.similarity import cosine_similarity

BLOCK = 2048


class Group(NamedTuple):
    """Rows that are near-duplicates of one another, directly or through others.

    Attributes:
        rows: Ascending row numbers, at least 2.
        leaks: Whether the group spans more than one split.
    """

    rows: Int[np.ndarray, " rows"]
    leaks: bool


def near_duplicates(
    vectors: Float[Array | np.ndarray, "items dim"],
    threshold: float = 0.99,
    *,
    splits: Int[np.ndarray, " labelled"] | None = None,
) -> list[Group]:
    """List the groups of vectors that are connected by cosines of at least a threshold.

    Blocks of the similarity matrix are computed on device and joined as they come, so that memory
    does not grow as N².

    Args:
        vectors: (N, D), any scale but zero.
        threshold: In (0, 1].
        splits: (N,) which split each row belongs to, such as 0 for training and 1 for test.

    Returns:
        Groups that span splits first; then larger groups first; then by their first row.

    Raises:
        ValueError: if the threshold is out of range or there is not one split per vector.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    count = len(vectors)
    parts = np.zeros(count, np.int64) if splits is None else np.asarray(splits)
    if len(parts) != count:
        raise ValueError(f"got {len(parts)} splits for {count} vectors")
    labels = np.arange(count)
    for left, right in _pairs(jnp.asarray(vectors, jnp.float32), threshold):
        labels = _join(labels, left, right)
    order = np.argsort(labels, kind="stable")
    edges = np.flatnonzero(np.diff(labels[order])) + 1
    groups = [
        Group(rows, bool((parts[rows] != parts[rows[0]]).any()))
        for rows in np.split(order, edges)
        if len(rows) > 1
    ]
    return sorted(groups, key=lambda group: (not group.leaks, -len(group.rows), group.rows[0]))


def _pairs(vectors: Array, threshold: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the rows and columns, rows below columns, where the similarity reaches the threshold."""
    count = vectors.shape[0]
    size = min(BLOCK, count)
    padded = jnp.pad(vectors, ((0, -count % max(1, size)), (0, 0)))
    # Rounding must not let a vector miss its own copy at a threshold of 1.
    close = jax.jit(lambda a, b: cosine_similarity(a, b) >= threshold - 1e-6)
    starts = range(0, count, max(1, size))
    blocks = list(itertools.combinations_with_replacement(starts, 2))
    for top, side in tqdm(blocks, desc="comparing", unit="block", delay=2, leave=False):
        hits = np.asarray(close(padded[top : top + size], padded[side : side + size]))
        left, right = np.nonzero(hits)
        left, right = left + top, right + side
        keep = (left < right) & (right < count)
        if keep.any():
            yield left[keep], right[keep]


def _join(labels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Give one label to all rows that the pairs connect."""
    count = len(labels)
    pairs = np.unique(labels[left] * count + labels[right])
    ends = pairs // count, pairs % count
    graph = coo_array((np.ones(len(pairs), bool), ends), shape=(count, count))
    _, components = connected_components(graph, directed=False)
    # SciPy counts in 32 bits, in which the products above would overflow.
    return components.astype(np.int64)[labels]
