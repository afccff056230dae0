"""What a search finds, with near-duplicates folded and hits unlike each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from vision_jax.gallery.queries import Queries, example_query
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex, arrays, folding
from vision_jax.search.diversity import check_mmr, maximal_marginal_relevance
from vision_jax.search.examples import WEIGHT
from vision_jax.search.folding import NearGroups
from vision_jax.search.protocol import Found

_CANDIDATES = 5  # for each hit that is wanted, where the hits are chosen to be unlike each other
_FEWEST = 50
_AT_ONCE = 64  # queries whose candidates are compared


class Hit(NamedTuple):
    """An image that was found.

    Attributes:
        item: its id in the index.
        score: its cosine with the query.
        row: its metadata.
        others: the metadata of its near-duplicates, which were folded into it.
    """

    item: int
    score: float
    row: dict[str, Any]
    others: tuple[dict[str, Any], ...] = ()


def find_hits(
    index: CosineIndex,
    queries: Queries,
    k: int,
    *,
    where: Int[np.ndarray, " items"] | None = None,
    min_score: float | None = None,
    fold: float | None = None,
    mmr: float | None = None,
    method: str = "exact",
) -> list[list[Hit]]:
    """Find what is most like each query.

    Args:
        index: The index, as `vision-jax index` or `build_index` made it.
        queries: What to look up, such as `image_queries` returns.
        k: How many hits, at least 1.
        where: (N,) the ids that may be found, such as `select_ids` returns; by default all.
        min_score: Least cosine, as for `CosineIndex.search`.
        fold: Cosine in (0, 1] from which two images are near-duplicates: of each group of them, as
            `near_duplicates` finds it among what may be found, only the best hit counts.
        mmr: Choose hits unlike each other, by maximal marginal relevance with this lambda in
            [0, 1], out of the best 5k hits or 50, whichever is more; 1 changes nothing. See
            `search.maximal_marginal_relevance`.
        method: As for `CosineIndex.search`.

    Returns:
        The hits of each query, at most k: best first, or with `mmr` in the order chosen.

    Raises:
        InputError: If an option is out of range, or `method` is none.
    """
    check_mmr(mmr)
    count = arrays.count("k", k)
    # Groups are exact; those of vectors that lie over the devices are looked for there.
    exact = "sharded" if method == "sharded" else "exact"
    groups = None if fold is None else NearGroups(index, fold, where, method=exact)
    if not queries.names:
        return []
    most = len(index) if where is None else len(where)
    wanted = count if mmr is None else min(most, max(_CANDIDATES * count, _FEWEST))
    spare = max(map(len, queries.leave_out))

    def search(size: int) -> Found:
        options: dict[str, Any] = {"min_score": min_score, "method": method}
        found = index.search(queries.vectors, size + spare, where, **options)
        return _without(found, queries.leave_out, size)

    if groups is None:
        best = folding.Folded(*search(wanted), [[[]] * wanted] * len(queries.names))
    else:
        best = folding.fold(search, wanted, groups, most)
    places = np.where(best.ids >= 0, np.arange(wanted), -1)
    if mmr is not None:
        places = _order(index, best.scores, best.ids, count, mmr)
    rows = iter(index.metadata(np.take_along_axis(best.ids, places, axis=1)[places >= 0]))
    return [
        [_hit(index, best, row, place, left_out, next(rows)) for place in line[line >= 0].tolist()]
        for row, (line, left_out) in enumerate(zip(places, queries.leave_out, strict=True))
    ]


def search_examples(
    index: CosineIndex,
    run: Run | None,
    like: Sequence[str | Path],
    unlike: Sequence[str | Path] = (),
    k: int = 10,
    *,
    weight: float = WEIGHT,
    **options: Any,
) -> list[Hit]:
    """Find what is like some images and unlike others.

    Args:
        index: As for `find_hits`.
        run: The run that made its vectors; None is enough where all examples are indexed.
        like: Image files, or keys of indexed images, at least one.
        unlike: Likewise, or none.
        k: How many hits.
        weight: How much the unlikes count; see `search.combine_examples` for the formula.
        **options: Further options of `find_hits`.

    Returns:
        At most k hits; none is an example.

    Raises:
        InputError: As for `example_query` and `find_hits`.
    """
    query = example_query(index, run, like, unlike, weight=weight)
    return find_hits(index, query, k, **options)[0]


def _hit(
    index: CosineIndex,
    best: folding.Folded,
    row: int,
    place: int,
    left_out: Sequence[int],
    metadata: Any,
) -> Hit:
    item, near = int(best.ids[row, place]), best.groups[row][place]
    others = [other for other in near if other not in (item, *left_out)]
    rows = tuple(index.metadata(others)) if others else ()
    return Hit(item, float(best.scores[row, place]), metadata, rows)


def _without(
    found: tuple[np.ndarray, np.ndarray], leave_out: Sequence[Sequence[int]], k: int
) -> Found:
    """Take some ids out of each query's results, and keep k places."""
    scores, ids = (part.copy() for part in found)
    for row, items in enumerate(leave_out):
        gone = np.isin(ids[row], items)
        kept = np.argsort(gone, kind="stable")  # those that stay come first, in order
        scores[row] = np.where(gone, np.float32(-np.inf), scores[row])[kept]
        ids[row] = np.where(gone, -1, ids[row])[kept]
    return scores[:, :k], ids[:, :k]


def _order(
    index: CosineIndex, scores: np.ndarray, ids: np.ndarray, k: int, mmr: float
) -> Int[np.ndarray, "queries k"]:
    """Choose diverse hits of each query, some queries at a time."""
    parts = []
    for start in range(0, len(ids), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        there = ids[part] >= 0
        vectors = np.zeros((*there.shape, index.dim), np.float32)
        vectors[there] = index.vectors(ids[part][there])
        parts.append(maximal_marginal_relevance(scores[part], vectors, k, mmr=mmr))
    return np.concatenate(parts)


def as_found(hits: Sequence[Sequence[Hit]]) -> Found:
    """Return hits as `(scores, ids)`, both (Q, most hits of any); missing places -inf and -1."""
    shape = len(hits), max(map(len, hits), default=0)
    scores, ids = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
    for row, line in enumerate(hits):
        scores[row, : len(line)] = [hit.score for hit in line]
        ids[row, : len(line)] = [hit.item for hit in line]
    return scores, ids
