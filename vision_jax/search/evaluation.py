"""How good a ranking is: retrieval metrics over ranked relevance, and their streamed mean.

A ranking is a boolean matrix (Q, R): row q says which of the R best results of query q are
relevant, best first. `num_relevant` (Q,) is how many relevant items the gallery holds for each
query. Every metric returns one value per query in [0, 1]; a query without relevant items scores 0,
and `evaluate_retrieval` leaves it out of their means.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vision_jax.errors import DataWarning, InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.similarity import cosine_similarity

PerQuery = Float[np.ndarray, " queries"]
_VOTES = 1 << 24  # counts of votes that are held at a time


def precision_at_k(relevant: ArrayLike, k: SupportsIndex) -> PerQuery:
    """Compute the share of the first k results that are relevant.

    A ranking shorter than k counts as if padded with irrelevant results.
    """
    count = arrays.count("k", k)
    return _ranking(relevant)[:, :count].sum(1) / count


def recall_at_k(relevant: ArrayLike, num_relevant: ArrayLike, k: SupportsIndex) -> PerQuery:
    """Compute the share of all relevant items that are among the first k results."""
    ranking, total = _counted(relevant, num_relevant)
    return _divide(ranking[:, : arrays.count("k", k)].sum(1), total)


def hit_rate_at_k(relevant: ArrayLike, k: SupportsIndex) -> PerQuery:
    """Say whether any of the first k results is relevant, as 0 or 1.

    Papers on metric learning call this Recall@K (Jégou et al. 2011, "Product quantization for
    nearest neighbor search"; Musgrave et al. 2020).
    """
    ranking = _ranking(relevant)
    return np.asarray(ranking[:, : arrays.count("k", k)].any(1), np.float64)


def reciprocal_rank(relevant: ArrayLike) -> PerQuery:
    """Compute 1 over the rank of the first relevant result; 0 where there is none.

    Its mean is the MRR (Voorhees 1999, "The TREC-8 question answering track report").
    """
    ranking = _ranking(relevant)
    if not ranking.shape[1]:
        return np.zeros(len(ranking))
    return np.where(ranking.any(1), 1.0 / (ranking.argmax(1) + 1), 0.0)


def r_precision(relevant: ArrayLike, num_relevant: ArrayLike) -> PerQuery:
    """Compute the precision among the first R results, R being the number of relevant items.

    Musgrave et al. 2020, "A metric learning reality check", section 3.2.
    """
    ranking, total = _counted(relevant, num_relevant)
    return _divide((ranking & _within(ranking, total)).sum(1), total)


def average_precision_at_r(relevant: ArrayLike, num_relevant: ArrayLike) -> PerQuery:
    """Compute 1/R Σ P(i) over the relevant ranks i ≤ R; its mean is MAP@R.

    Musgrave et al. 2020, "A metric learning reality check", equations 4 and 5.
    """
    ranking, total = _counted(relevant, num_relevant)
    return _divide((_precisions(ranking) * _within(ranking, total)).sum(1), total)


def average_precision(relevant: ArrayLike, num_relevant: ArrayLike) -> PerQuery:
    """Compute 1/R Σ P(i) over all relevant ranks i of the ranking; its mean is mAP.

    On a full ranking without ties this is scikit-learn's `average_precision_score`.
    Manning et al. 2008, "Introduction to information retrieval", equation 8.3.
    """
    ranking, total = _counted(relevant, num_relevant)
    return _divide(_precisions(ranking).sum(1), total)


def knn_accuracy(neighbor_labels: ArrayLike, labels: ArrayLike) -> float:
    """Compute the share of queries whose label wins the majority vote of their k neighbours.

    Every query counts: one without neighbours, or whose label no neighbour has, is wrong.

    Args:
        neighbor_labels: (Q, k) integers from 0, nearest first; -1 where there is no neighbour.
        labels: (Q,) integers from 0, the true labels; Q at least 1.

    Returns:
        A share in [0, 1]. Among labels with equally many votes the lowest wins, as in
        scikit-learn's `KNeighborsClassifier`.

    Raises:
        InputError: If an argument is something else.
    """
    near, truth = arrays.integers("neighbor_labels", neighbor_labels, 2), _labels("labels", labels)
    if len(near) != len(truth) or not len(truth):
        raise InputError(
            f"neighbor_labels has {len(near)} rows for {len(truth)} labels; one row per label, and "
            "at least 1, is needed"
        )
    if near.min(initial=0) < -1:
        raise InputError(f"neighbor_labels is down to {near.min()}; labels from 0, or -1, needed")
    return float(_votes_right(near, truth).mean())


def evaluate_retrieval(
    queries: ArrayLike,
    query_labels: ArrayLike,
    gallery: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    *,
    ks: Sequence[SupportsIndex] = (1, 5, 10),
    ignore: ArrayLike | None = None,
    budget: SupportsIndex = 1 << 24,
) -> dict[str, float]:
    """Rank a gallery for every query and average the retrieval metrics.

    An item is relevant when its label is the query's. Scores are held for a few queries at a time.
    Embeddings that are zero, NaN or infinite have no cosine: they are left out of queries and
    gallery, counted in the result, and named in a warning.

    Args:
        queries: (Q, D) embeddings, any scale.
        query_labels: (Q,) integers from 0.
        gallery: (N, D) embeddings; by default the queries search one another, each ignoring
            itself.
        gallery_labels: (N,) integers from 0, given with `gallery`.
        ks: The cut-offs of precision, recall, hit rate and kNN accuracy.
        ignore: (Q,) the gallery row each query must not find; -1 for none. Without `gallery` it
            replaces each query's own row.
        budget: How many scores to hold at a time.

    Returns:
        Means over the queries that have something to find: `precision@k`, `recall@k` and
        `hit_rate@k` for each k, `map@r`, `map`, `r_precision`, `mrr`; `queries`, how many these
        are; the mean over all queries `knn_accuracy@k` for each k; and `left_out_queries` and
        `left_out_gallery`, how many embeddings are zero, NaN or infinite.

    Raises:
        InputError: If gallery and its labels are not given together, the lengths differ, no query
            has a relevant item, or a k is less than 1.
    """
    found = _retrieve(queries, query_labels, gallery, gallery_labels, ks, ignore, budget)
    return {name: float(np.nanmean(values)) for name, values in found.values.items()} | {
        "queries": float(np.isfinite(found.values["map"]).sum()),
        "left_out_queries": float(len(found.left_out_queries)),
        "left_out_gallery": float(len(found.left_out_gallery)),
    }


class RetrievalValues(NamedTuple):
    """Retrieval metrics of every query, as `retrieval_values` computes them.

    Attributes:
        values: (Q,) in [0, 1] for each metric of `evaluate_retrieval`; NaN for a query that does
            not count in its mean.
        left_out_queries: rows of queries that are zero, NaN or infinite.
        left_out_gallery: rows of the gallery that are.
    """

    values: dict[str, PerQuery]
    left_out_queries: Int[np.ndarray, " lost"]
    left_out_gallery: Int[np.ndarray, " lost_items"]


def retrieval_values(
    queries: ArrayLike,
    query_labels: ArrayLike,
    gallery: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    *,
    ks: Sequence[SupportsIndex] = (1, 5, 10),
    ignore: ArrayLike | None = None,
    budget: SupportsIndex = 1 << 24,
) -> RetrievalValues:
    """Compute the retrieval metrics of every query, whose means `evaluate_retrieval` returns.

    Arguments, errors and the warning are those of `evaluate_retrieval`.
    """
    return _retrieve(queries, query_labels, gallery, gallery_labels, ks, ignore, budget)


def _retrieve(
    queries: ArrayLike,
    query_labels: ArrayLike,
    gallery: ArrayLike | None,
    gallery_labels: ArrayLike | None,
    ks: Sequence[SupportsIndex],
    ignore: ArrayLike | None,
    budget: SupportsIndex,
) -> RetrievalValues:
    if (gallery is None) != (gallery_labels is None):
        raise InputError("gallery and gallery_labels must be given together")
    cuts = [arrays.count("ks", k) for k in ks]
    asked, labels = arrays.vectors("queries", queries), _labels("query_labels", query_labels)
    if gallery is None or gallery_labels is None:
        rows, items = asked, labels
        ignore = np.arange(len(labels)) if ignore is None else ignore
    else:
        rows, items = arrays.vectors("gallery", gallery), _labels("gallery_labels", gallery_labels)
    skip = np.full(len(labels), -1) if ignore is None else arrays.integers("ignore", ignore, 1)
    task = _Task(asked, labels, rows, items, skip)
    _check_shapes(task)
    lost, lost_rows = arrays.without_direction(asked), arrays.without_direction(rows)
    _warn_of("queries", lost, len(asked))
    if gallery is not None:
        _warn_of("gallery", lost_rows, len(rows))
    task = _without(task, lost, lost_rows)
    kept = np.delete(np.arange(len(asked)), lost)
    values = {}
    for name, some in _values(task, cuts, arrays.count("budget", budget)).items():
        values[name] = np.full(len(asked), np.nan)
        values[name][kept] = some
    return RetrievalValues(values, lost, lost_rows)


class _Task(NamedTuple):
    """Embeddings and labels of both sides, and the gallery row each query must not find."""

    queries: np.ndarray
    labels: np.ndarray
    gallery: np.ndarray
    items: np.ndarray
    skip: np.ndarray


def _without(task: _Task, queries: np.ndarray, rows: np.ndarray) -> _Task:
    """Leave queries and gallery rows out."""
    asked, labels, gallery, items, skip = task
    if len(queries):
        asked, labels, skip = (np.delete(part, queries, 0) for part in (asked, labels, skip))
    if len(rows):
        place = np.full(len(gallery) + 1, -1)  # of each row among those left; -1 stays -1
        place[np.delete(np.arange(len(gallery)), rows)] = np.arange(len(gallery) - len(rows))
        gallery, items, skip = np.delete(gallery, rows, 0), np.delete(items, rows), place[skip]
    return _Task(asked, labels, gallery, items, skip)


def _values(task: _Task, ks: Sequence[int], budget: int) -> dict[str, np.ndarray]:
    queries, labels, gallery, items, skip = task
    parts = [
        _measure(scores, labels[part], items, skip[part], ks)
        for part, scores in _stream(queries, jnp.asarray(gallery), budget)
    ]
    if not any(np.isfinite(part["map"]).any() for part in parts):
        raise InputError("no query has a relevant item in the gallery; at least 1 is needed")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _stream(queries: np.ndarray, gallery: Array, budget: int) -> Iterator[tuple[slice, np.ndarray]]:
    size = max(1, min(len(queries), budget // max(1, len(gallery))))
    for start in range(0, len(queries), size):
        rows = slice(start, min(start + size, len(queries)))
        part = queries[rows]
        short = size - len(part)  # a padded last part compiles nothing new
        scores = _score(jnp.asarray(np.pad(part, ((0, short), (0, 0)))), gallery)
        yield rows, np.asarray(scores)[: len(part)]


_score = jax.jit(cosine_similarity)


def _measure(
    scores: np.ndarray, labels: np.ndarray, items: np.ndarray, skip: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Measure one part's queries; all but kNN accuracy is NaN without relevant items."""
    relevant, order = _rank(scores, items[None, :] == labels[:, None], skip)
    count = relevant.sum(1)
    values: dict[str, np.ndarray] = {}
    for k in ks:
        values[f"precision@{k}"] = precision_at_k(relevant, k)
        values[f"recall@{k}"] = recall_at_k(relevant, count, k)
        values[f"hit_rate@{k}"] = hit_rate_at_k(relevant, k)
    values["map@r"] = average_precision_at_r(relevant, count)
    values["map"] = average_precision(relevant, count)
    values["r_precision"] = r_precision(relevant, count)
    values["mrr"] = reciprocal_rank(relevant)
    values = {name: np.where(count > 0, value, np.nan) for name, value in values.items()}
    for k in ks:
        votes = items[order[:, :k]]
        votes[order[:, :k] < 0] = -1
        values[f"knn_accuracy@{k}"] = _votes_right(votes, labels).astype(np.float64)
    return values


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


def _votes_right(near: np.ndarray, labels: np.ndarray) -> Bool[np.ndarray, " queries"]:
    """Say for which queries the most frequent label, the lowest of equals, is the true one."""
    # Labels may be large and sparse: votes are counted by their rank among those there are.
    names, ranks = np.unique(near, return_inverse=True)
    right, ranks = np.zeros(len(near), bool), ranks.reshape(near.shape)
    rows = max(1, _VOTES // max(1, len(names)))
    for start in range(0, len(near) if len(names) else 0, rows):
        part = slice(start, start + rows)
        votes = np.zeros((len(near[part]), len(names)), np.int32)
        np.add.at(votes, (np.arange(len(votes))[:, None], ranks[part]), near[part] >= 0)
        right[part] = votes.any(1) & (names[votes.argmax(1)] == labels[part])
    return right


def _precisions(relevant: np.ndarray) -> np.ndarray:
    """Compute P(i) at every relevant rank i, and 0 at the others."""
    ranks = np.arange(1, relevant.shape[1] + 1)
    return np.where(relevant, relevant.cumsum(1) / ranks, 0.0)


def _within(ranking: np.ndarray, num_relevant: np.ndarray) -> np.ndarray:
    return np.arange(ranking.shape[1]) < num_relevant[:, None]


def _divide(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, values / np.maximum(counts, 1), 0.0)


def _ranking(relevant: ArrayLike) -> Bool[np.ndarray, "queries ranks"]:
    return arrays.booleans("relevant", relevant, 2)


def _counted(
    relevant: ArrayLike, num_relevant: ArrayLike
) -> tuple[Bool[np.ndarray, "queries ranks"], Int[np.ndarray, " queries"]]:
    ranking, total = _ranking(relevant), arrays.integers("num_relevant", num_relevant, 1)
    if len(total) != len(ranking):
        raise InputError(f"num_relevant has {len(total)} entries; {len(ranking)} are needed")
    few = np.flatnonzero(total < ranking.sum(1))
    if len(few):
        raise InputError(
            f"num_relevant is {total[few[0]]} in row {few[0]}; at least the "
            f"{ranking[few[0]].sum()} that its ranking holds are needed"
        )
    return ranking, total


def _labels(name: str, value: ArrayLike) -> Int[np.ndarray, " labels"]:
    labels = arrays.integers(name, value, 1)
    if labels.min(initial=0) < 0:
        raise InputError(f"{name} is down to {labels.min()}; labels from 0 are needed")
    return labels


def _check_shapes(task: _Task) -> None:
    queries, labels, gallery, items, skip = task
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"queries has shape {queries.shape} and gallery {gallery.shape}; "
            "the same width is needed"
        )
    for name, given, rows in (
        ("query_labels", labels, queries),
        ("gallery_labels", items, gallery),
        ("ignore", skip, queries),
    ):
        if len(given) != len(rows):
            raise InputError(f"{name} has {len(given)} entries; {len(rows)} are needed")
    outside = skip[(skip < -1) | (skip >= len(gallery))]
    if len(outside):
        raise InputError(f"ignore is {outside[0]}; it must be in [-1, {len(gallery)})")


def _warn_of(name: str, lost: np.ndarray, count: int) -> None:
    if len(lost):
        warnings.warn(
            f"{len(lost)} of {count} {name} are zero, NaN or infinite and left out: rows "
            f"{arrays.first(lost)}",
            DataWarning,
            stacklevel=4,
        )
