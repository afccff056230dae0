"""How good a ranking is: retrieval metrics over ranked relevance, and their streamed mean.

A ranking is a boolean matrix (Q, R): row q says which of the R best results of query q are
relevant, best first. `num_relevant` (Q,) is how many relevant items the gallery holds for each
query. Every metric returns one value per query in [0, 1]; a query without relevant items has
nothing to find and scores 0, and `evaluate_retrieval` leaves it out of the means.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vision_jax.search.similarity import cosine_similarity

Ranking = Bool[np.ndarray, "queries ranks"]
Counts = Int[np.ndarray, " queries"]
PerQuery = Float[np.ndarray, " queries"]


def precision_at_k(relevant: Ranking, k: int) -> PerQuery:
    """Compute the share of the first k results that are relevant.

    A ranking shorter than k is counted as if padded with irrelevant results.
    """
    _check_k(k)
    return _divide(relevant[:, :k].sum(1), np.full(len(relevant), k))


def recall_at_k(relevant: Ranking, num_relevant: Counts, k: int) -> PerQuery:
    """Compute the share of all relevant items that are among the first k results."""
    _check_k(k)
    return _divide(relevant[:, :k].sum(1), num_relevant)


def hit_rate_at_k(relevant: Ranking, k: int) -> PerQuery:
    """Say whether any of the first k results is relevant, as 0 or 1.

    Papers on metric learning call this Recall@K (Jégou et al. 2011, "Product quantization for
    nearest neighbor search"; Musgrave et al. 2020).
    """
    _check_k(k)
    return np.asarray(relevant[:, :k].any(1), np.float64)


def reciprocal_rank(relevant: Ranking) -> PerQuery:
    """Compute 1 over the rank of the first relevant result; 0 where there is none.

    Its mean is the MRR (Voorhees 1999, "The TREC-8 question answering track report").
    """
    first = relevant.argmax(1)
    return np.where(relevant.any(1), 1.0 / (first + 1), 0.0)


def r_precision(relevant: Ranking, num_relevant: Counts) -> PerQuery:
    """Compute the precision among the first R results, R being the number of relevant items.

    Musgrave et al. 2020, "A metric learning reality check", section 3.2.
    """
    within = np.arange(relevant.shape[1]) < num_relevant[:, None]
    return _divide((relevant & within).sum(1), num_relevant)


def average_precision_at_r(relevant: Ranking, num_relevant: Counts) -> PerQuery:
    """Compute 1/R Σ P(i) over the relevant ranks i ≤ R; its mean is MAP@R.

    Musgrave et al. 2020, "A metric learning reality check", equations 4 and 5.
    """
    within = np.arange(relevant.shape[1]) < num_relevant[:, None]
    return _divide((_precisions(relevant) * within).sum(1), num_relevant)


def average_precision(relevant: Ranking, num_relevant: Counts) -> PerQuery:
    """Compute 1/R Σ P(i) over all relevant ranks i of the ranking; its mean is mAP.

    On a full ranking without ties this is scikit-learn's `average_precision_score`.
    Manning et al. 2008, "Introduction to information retrieval", equation 8.3.
    """
    return _divide(_precisions(relevant).sum(1), num_relevant)


def knn_accuracy(
    neighbor_labels: Int[np.ndarray, "queries k"], labels: Int[np.ndarray, " labels"]
) -> float:
    """Compute the accuracy of a majority vote among the k nearest labels.

    Args:
        neighbor_labels: (Q, k), nearest first, from 0; -1 where there is no neighbour.
        labels: (Q,) the true labels.

    Returns:
        A share in [0, 1]. Among labels with equally many votes the lowest wins, as in
        scikit-learn's `KNeighborsClassifier`.
    """
    if neighbor_labels.shape[0] != labels.shape[0]:
        raise ValueError(f"got {neighbor_labels.shape[0]} rows for {labels.shape[0]} labels")
    votes = np.zeros((len(labels), max(int(neighbor_labels.max(initial=0)) + 1, 1)), np.int64)
    rows, columns = np.nonzero(neighbor_labels >= 0)
    np.add.at(votes, (rows, neighbor_labels[rows, columns]), 1)
    return float((votes.argmax(1) == labels).mean())


def evaluate_retrieval(
    queries: Float[Array | np.ndarray, "queries dim"],
    query_labels: Int[Array | np.ndarray, " labels"],
    gallery: Float[Array | np.ndarray, "items dim"] | None = None,
    gallery_labels: Int[Array | np.ndarray, " gallery_labels"] | None = None,
    *,
    ks: Sequence[int] = (1, 5, 10),
    ignore: Int[Array | np.ndarray, " ignored"] | None = None,
    budget: int = 1 << 24,
) -> dict[str, float]:
    """Rank a gallery for every query and average the retrieval metrics.

    An item is relevant when its label is the query's. Scores are held for a few queries at a
    time, never for all.

    Args:
        queries: (Q, D) embeddings, any scale.
        query_labels: (Q,) labels from 0.
        gallery: (N, D) embeddings; without it the queries search one another, each ignoring
            itself.
        gallery_labels: (N,) labels from 0, given with `gallery`.
        ks: The cut-offs of precision, recall, hit rate and kNN accuracy.
        ignore: (Q,) the gallery row each query must not find; -1 for none. Without `gallery` it
            replaces each query's own row.
        budget: How many scores to hold at a time.

    Returns:
        Means over the queries that have something to find: `precision@k`, `recall@k`,
        `hit_rate@k` and `knn_accuracy@k` for each k, `map@r`, `map`, `r_precision`, `mrr`;
        and `queries`, how many were counted.

    Raises:
        ValueError: if gallery and its labels are not given together, or the lengths differ, or no
            query has a relevant item, or a k is less than 1.
    """
    if (gallery is None) != (gallery_labels is None):
        raise ValueError("gallery and gallery_labels must be given together")
    for k in ks:
        _check_k(k)
    labels = np.asarray(query_labels)
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels = queries, query_labels
        ignore = np.arange(len(labels)) if ignore is None else ignore
    skip = np.full(len(labels), -1) if ignore is None else np.asarray(ignore)
    items = np.asarray(gallery_labels)
    _check_lengths(len(queries), labels, len(gallery), items, skip)
    sums: dict[str, float] = {}
    counted = 0
    for rows, scores in _stream(jnp.asarray(queries), jnp.asarray(gallery), budget):
        values, found = _measure(scores, labels[rows], items, skip[rows], ks)
        counted += found
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
    if not counted:
        raise ValueError("no query has a relevant item in the gallery")
    return {name: value / counted for name, value in sums.items()} | {"queries": float(counted)}


def _stream(queries: Array, gallery: Array, budget: int) -> Iterator[tuple[slice, np.ndarray]]:
    size = max(1, min(len(queries), budget // max(1, len(gallery))))
    score = jax.jit(cosine_similarity)
    for start in range(0, len(queries), size):
        rows = slice(start, min(start + size, len(queries)))
        part = queries[rows]
        short = size - part.shape[0]  # a padded last part compiles nothing new
        scores = score(jnp.pad(part, ((0, short), (0, 0))), gallery)
        yield rows, np.asarray(scores)[: part.shape[0]]


def _measure(
    scores: np.ndarray, labels: np.ndarray, items: np.ndarray, skip: np.ndarray, ks: Sequence[int]
) -> tuple[dict[str, float], int]:
    """Sum every metric over the queries of one part that have relevant items."""
    relevant, order = _rank(scores, items[None, :] == labels[:, None], skip)
    count = relevant.sum(1)
    keep = count > 0
    relevant, order, count, labels = relevant[keep], order[keep], count[keep], labels[keep]
    values: dict[str, Any] = {}
    for k in ks:
        votes = items[order[:, :k]]
        votes[order[:, :k] < 0] = -1
        values[f"precision@{k}"] = precision_at_k(relevant, k).sum()
        values[f"recall@{k}"] = recall_at_k(relevant, count, k).sum()
        values[f"hit_rate@{k}"] = hit_rate_at_k(relevant, k).sum()
        values[f"knn_accuracy@{k}"] = (
            knn_accuracy(votes, labels) * len(labels) if len(labels) else 0
        )
    values["map@r"] = average_precision_at_r(relevant, count).sum()
    values["map"] = average_precision(relevant, count).sum()
    values["r_precision"] = r_precision(relevant, count).sum()
    values["mrr"] = reciprocal_rank(relevant).sum()
    return {name: float(value) for name, value in values.items()}, int(keep.sum())


def _rank(
    scores: np.ndarray, relevant: np.ndarray, skip: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sort each row, best first and ties by the lower id; a skipped item comes last, as -1.

    Score, id and relevance share one 64-bit key, because NumPy sorts plain integers several
    times faster than it finds a stable permutation.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # the sum turns -0 into 0
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    ids = np.arange(scores.shape[1], dtype=np.uint64) << np.uint64(1)
    keys = (np.uint64(1 << 32) - np.uint64(1) - ascending) << np.uint64(32) | ids | relevant
    rows = np.flatnonzero(skip >= 0)
    keys[rows, skip[rows]] = np.iinfo(np.uint64).max - np.uint64(1)
    keys.sort(axis=1)
    order = ((keys & np.uint64(0xFFFFFFFF)) >> np.uint64(1)).astype(np.int64)
    order[order == 0x7FFFFFFF] = -1
    return (keys & np.uint64(1)).astype(bool), order


def _precisions(relevant: np.ndarray) -> np.ndarray:
    """Give P(i) at every relevant rank i, and 0 at the others."""
    ranks = np.arange(1, relevant.shape[1] + 1)
    return np.where(relevant, relevant.cumsum(1) / ranks, 0.0)


def _divide(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, values / np.maximum(counts, 1), 0.0)


def _check_lengths(
    queries: int, labels: np.ndarray, count: int, items: np.ndarray, skip: np.ndarray
) -> None:
    for given, vectors in ((labels, queries), (items, count), (skip, queries)):
        if len(given) != vectors:
            raise ValueError(f"got {len(given)} labels for {vectors} vectors")
    if ((skip < -1) | (skip >= count)).any():
        raise ValueError(f"rows to ignore must be in [-1, {count}), got {skip.max()}")


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
