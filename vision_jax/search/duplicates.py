"""Near-duplicates: groups of vectors whose cosines reach a threshold, by chains or by all pairs."""

import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vision_jax.bars import tqdm
from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.similarity import cosine_similarity

BLOCK = 2048
SLACK = 1e-6  # at a threshold of 1, a vector must not miss its own copy by rounding
LARGEST = 10_000  # vectors of a chain that are compared pair by pair: 0.4 GB of cosines

Linkage = Literal["chain", "complete"]


class Group(NamedTuple):
    """Rows that are near-duplicates of one another, see `near_duplicates`.

    Attributes:
        rows: Ascending row numbers, at least 2.
        leaks: Whether the group spans more than one split.
    """

    rows: Int[np.ndarray, " rows"]
    leaks: bool


def near_duplicates(
    vectors: ArrayLike,
    threshold: float = 0.99,
    *,
    splits: ArrayLike | None = None,
    linkage: Linkage = "chain",
) -> list[Group]:
    """List the groups of vectors that are alike by cosines of at least a threshold.

    Blocks of the similarity matrix are computed on the device and joined as they come, so that
    memory does not grow as N².

    Args:
        vectors: (N, D) real numbers, any scale. A row that is zero, NaN or infinite is in no group.
        threshold: In (0, 1].
        splits: (N,) integers: the split of each row, such as 0 for training and 1 for test.
        linkage: "chain" (single linkage): each of a group is near another of it, so that a series
            of photographs is one group, though its ends may differ. "complete": any two of a group
            are near. Groups grow by joining the two whose least cosine is highest, of equal ones
            those with the lowest first rows (complete-linkage clustering; Sørensen, 1948).

    Returns:
        Groups that span splits first; then larger groups first; then by their first row.

    Raises:
        InputError: If the threshold is out of range, there is not one split per vector, or, with
            complete linkage, more than 10,000 vectors are connected.
    """
    check_threshold(threshold)
    if linkage not in ("chain", "complete"):
        raise InputError(f"linkage is {linkage!r}; chain or complete is needed")
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
    found = [chain for chain in np.split(order, edges) if len(chain) > 1]
    if linkage == "complete":
        found = [group for chain in found for group in _complete(rows, chain, threshold)]
    groups = [Group(some, bool((parts[some] != parts[some[0]]).any())) for some in found]
    return sorted(groups, key=lambda group: (not group.leaks, -len(group.rows), group.rows[0]))


def check_threshold(threshold: float, name: str = "threshold") -> None:
    """Refuse a threshold outside (0, 1].

    Raises:
        InputError: If it is; names it by the argument it came by.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"{name} is {threshold}; it must be in (0, 1]")


def _complete(
    vectors: np.ndarray, chain: Int[np.ndarray, " rows"], threshold: float
) -> list[Int[np.ndarray, " group"]]:
    """Divide connected vectors into groups of which any two members are near."""
    count = len(chain)
    if count > LARGEST:
        raise InputError(
            f"{count} vectors are connected by cosines of {threshold} or more; complete linkage "
            f"takes at most {LARGEST}: a higher threshold, or linkage chain, is needed"
        )
    rows = np.zeros((1 << (count - 1).bit_length(), vectors.shape[1]), vectors.dtype)
    rows[:count] = vectors[chain]  # few shapes are compiled
    near = np.array(cosine_similarity(rows, rows)[:count, :count])  # of any two of two groups
    near[np.tril_indices(count)] = -np.inf  # row below column alone
    groups = [[row] for row in chain.tolist()]
    best, other = near.max(1), near.argmax(1)  # of each row
    while best.max() >= np.float32(threshold - SLACK):
        one = int(np.argmax(best))
        two = int(other[one])
        groups[one] += groups[two]
        groups[two] = []
        _absorb(near, one, two)
        # Cosines only fall: a row whose best was with another keeps it.
        stale = np.flatnonzero((other == one) | (other == two))
        stale = np.union1d(stale, [one, two])
        best[stale], other[stale] = near[stale].max(1), near[stale].argmax(1)
    return [np.sort(np.array(group)) for group in groups if len(group) > 1]


def _absorb(near: Float[np.ndarray, "groups groups"], one: int, two: int) -> None:
    """Let a group take in a later one: it is as near to each other group as the farther of both."""
    count = len(near)
    places = np.arange(count)
    rows, columns = np.minimum(places, one), np.maximum(places, one)
    others = np.minimum(places, two), np.maximum(places, two)
    least = np.minimum(near[rows, columns], near[others])
    near[rows, columns] = least
    near[others] = -np.inf
    near[one, one] = -np.inf


def _pairs(vectors: Array, threshold: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows and columns, rows below columns, where the cosine reaches the threshold."""
    count = vectors.shape[0]
    size = min(BLOCK, count)
    padded = jnp.pad(vectors, ((0, -count % max(1, size)), (0, 0)))
    least = jnp.float32(threshold - SLACK)
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
