"""Near-duplicates: groups of vectors whose cosines reach a threshold."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from tqdm import tqdm

from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
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
    vectors: ArrayLike, threshold: float = 0.99, *, splits: ArrayLike | None = None
) -> list[Group]:
    """List the groups of vectors that are connected by cosines of at least a threshold.

    Blocks of the similarity matrix are computed on the device and joined as they come, so that
    memory does not grow as N².

    Args:
        vectors: (N, D) real numbers, any scale. A row that is zero, NaN or infinite is in no group.
        threshold: In (0, 1].
        splits: (N,) integers: the split of each row, such as 0 for training and 1 for test.

    Returns:
        Groups that span splits first; then larger groups first; then by their first row.

    Raises:
        InputError: If the threshold is out of range or there is not one split per vector.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be in (0, 1]")
    rows = arrays.vectors("vectors", vectors)
    count = len(rows)
    parts = np.zeros(count, np.int64)
    if splits is not None:
        parts = arrays.integers("splits", splits, 1)
    if len(parts) != count:
        raise InputError(f"splits has {len(parts)} entries; {count} are needed, one per vector")
    labels = np.arange(count)
    for left, right in _pairs(jnp.asarray(rows), threshold):
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
    """Yield the rows and columns, rows below columns, where the cosine reaches the threshold."""
    count = vectors.shape[0]
    size = min(BLOCK, count)
    padded = jnp.pad(vectors, ((0, -count % max(1, size)), (0, 0)))
    least = jnp.float32(threshold - 1e-6)  # at 1, a vector must not miss its own copy by rounding
    starts = range(0, count, max(1, size))
    blocks = list(itertools.combinations_with_replacement(starts, 2))
    for top, side in tqdm(blocks, desc="comparing", unit="block", delay=2, leave=False):
        hits = np.asarray(_reach(padded[top : top + size], padded[side : side + size], least))
        left, right = np.nonzero(hits)
        left, right = left + top, right + side
        keep = (left < right) & (right < count)
        if keep.any():
            yield left[keep], right[keep]


@jax.jit
def _reach(left: Array, right: Array, least: Array) -> Array:
    return cosine_similarity(left, right) >= least


def _join(labels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Give one label to all rows that the pairs connect."""
    from scipy.sparse import coo_array  # slow to import, and needed here alone
    from scipy.sparse.csgraph import connected_components

    count = len(labels)
    pairs = np.unique(labels[left] * count + labels[right])
    ends = pairs // count, pairs % count
    graph = coo_array((np.ones(len(pairs), bool), ends), shape=(count, count))
    _, components = connected_components(graph, directed=False)
    # SciPy counts in 32 bits, in which the products above would overflow.
    return components.astype(np.int64)[labels]
