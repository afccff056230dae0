"""Exact top-k over a large gallery: bound every group of rows, then score the few best groups.

The gallery passes through the matrix product in blocks small enough to stay in cache, and of each
block only the best score of every group of `GROUP` consecutive rows is kept. The k best rows lie in
the k best groups: a row outside them has k groups before it, each with a row that scores higher, or
as high with a lower number. So only those groups are scored row by row. The same holds for scores
known within a bound, which is what lets the first pass run in int8.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

Results = TypeVar("Results", bound=tuple[Array, ...])

GROUP = 32
CHUNK = 128  # queries per pass over the gallery
BLOCK = 4096  # with 128 scores a row, 2 MiB of scores: about a core's cache
EXCESS = 6  # groups scored beyond k, since two products may round the same score differently
FEW = 16  # up to so many queries a block may be wider
WIDE_BLOCK = 16_384
DENSE = 4096  # a gallery up to this size is scored whole
DENSE_SCORES = 1 << 24  # how many scores to hold at a time then


class Rows(NamedTuple):
    """Gallery vectors as stored: the vector meant is `scale[i] * values[i]`.

    `values` is (N, D) float32, bfloat16 or int8; `scale` is (N,) float32.
    """

    values: Shaped[Array, "items dim"]
    scale: Float[Array, " items"]


class Coarse(NamedTuple):
    """Vectors rounded to int8, and per row the length of what the rounding took away.

    `error` is a single 0 where nothing was lost.
    """

    rows: Rows
    error: Float[Array, " items"] | Float[Array, ""]


def round_to_int8(vectors: Float[Array, "items dim"]) -> Coarse:
    """Round each row to 127 steps either side of zero, its largest entry being the last step."""
    scale = jnp.max(jnp.abs(vectors), axis=1) / 127.0
    scale = jnp.where(scale > 0, scale, 1.0)
    values = jnp.round(vectors / scale[:, None]).astype(jnp.int8)
    lost = vectors - values.astype(jnp.float32) * scale[:, None]
    return Coarse(Rows(values, scale), jnp.sqrt(jnp.sum(lost * lost, axis=1)))


def shortlist_size(k: int) -> int:
    """Give how many groups to score row by row for k neighbours after a first pass in int8.

    The excess over k is room for groups whose bound is high though their rows are not.
    """
    return 2 * k + 28


def is_dense(items: int, k: int) -> bool:
    """Say whether a gallery is so small, or k so large, that every row is scored."""
    return items <= max(DENSE, GROUP * shortlist_size(k))


def search(
    queries: Float[Array, "queries dim"],
    rows: Rows,
    where: Bool[Array, "masks items"],
    used: Int[Array, ""] | int,
    k: int,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Find the k best rows by `<query, scale * values>`, ties by the lower row.

    Args:
        queries: (Q, D) float32.
        rows: (N, D).
        where: (1, N) or (Q, N), the rows that may be found.
        used: Rows from here on are not looked at; `where` must leave them out.
        k: At least 1, static.

    Returns:
        `(scores, rows)`, (Q, k) float32 and int32; -inf and -1 where there is none.
    """
    items = rows.values.shape[0]
    if is_dense(items, k):
        chunk = max(1, min(CHUNK, DENSE_SCORES // max(1, items)))
        return by_chunks(lambda q, w: _score_all(q, rows, w, k), queries, where, chunk)

    def part(queries: Array, where: Array) -> tuple[Array, Array]:
        best = _group_maxima(queries, rows, where, used)
        _, groups = lax.top_k(best, k + EXCESS)
        return _score_groups(queries, rows, where, groups, k)

    return by_chunks(part, queries, where, CHUNK)


def search_coarse(
    queries: Float[Array, "queries dim"],
    rows: Rows,
    coarse: Coarse,
    where: Bool[Array, "masks items"],
    used: Int[Array, ""] | int,
    k: int,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"], Bool[Array, " queries"]]:
    """Do as `search` by a first pass over int8 rows, and say for which queries that is proven.

    Let q = q' + d be a query and x = x' + e a row, where the dash marks what was rounded. Then
    <q, x> = <q', x'> + <q', e> + <d, x>, at most <q', x'> + |q'| |e| + |d| |x|, which bounds every
    group from above. A result is proven when the groups left out are bounded below the k-th score.

    Args:
        queries: (Q, D) float32 of length 1.
        rows: (N, D); the vectors meant have length 1, and `is_dense` does not hold.
        coarse: The same vectors in int8.
        where: As for `search`.
        used: As for `search`.
        k: At least 1, static.
    """
    # Sums in float32 are off by no more than this, and so are the lengths measured by them.
    slack = (rows.values.shape[1] + 16) * 2.0**-22
    block = BLOCK if queries.shape[0] > FEW else WIDE_BLOCK
    errors = _group_errors(coarse.error, block) if coarse.error.ndim else coarse.error

    def part(queries: Array, where: Array) -> tuple[Array, Array, Array]:
        asked = round_to_int8(queries)
        best = _group_maxima(asked.rows.values, coarse.rows, where, used)
        length = 1.0 + asked.error[:, None]
        bound = best * asked.rows.scale[:, None] + length * errors + asked.error[:, None]
        bounds, groups = lax.top_k(bound, shortlist_size(k))
        scores, found = _score_groups(queries, rows, where, groups, k)
        # Not `bounds[:, -1]`: a slice is merged into the selection and makes it a whole sort.
        left_out, last = jnp.min(bounds, axis=1), jnp.min(scores, axis=1)
        proven = (left_out < last - slack) | (left_out == -jnp.inf)
        return scores, found, proven

    return by_chunks(part, queries, where, CHUNK)


def merge(
    first: tuple[Array, Array], second: tuple[Array, Array], k: int
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Keep the k best of two lists of `(scores, ids)`; ties go to the first, then to the left."""
    scores, ids = (jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True))
    values, places = lax.top_k(scores, k)
    return values, jnp.take_along_axis(ids, places, axis=1)


def _block(queries: int, items: int) -> int:
    return min(BLOCK if queries > FEW else WIDE_BLOCK, items // GROUP * GROUP)


def _group_maxima(
    queries: Array, rows: Rows, where: Array, used: Array | int
) -> Float[Array, "queries groups"]:
    """Take each group's best score; -inf where no row of it may be found."""
    items = rows.values.shape[0]
    block = _block(queries.shape[0], items)
    per_block = block // GROUP

    def step(number: Array, maxima: Array) -> Array:
        # The last block reaches back over rows of the one before, so that all have one shape.
        begin = jnp.minimum(number * block, items - block)
        values, scale = (lax.dynamic_slice_in_dim(part, begin, block) for part in rows)
        allowed = lax.dynamic_slice_in_dim(where, begin, block, 1)
        allowed &= begin + jnp.arange(block, dtype=jnp.int32) >= number * block
        scores = jnp.where(allowed.T, _dot(values, queries) * scale[:, None], -jnp.inf)
        best = jnp.max(scores.reshape(per_block, GROUP, -1), axis=1)
        return lax.dynamic_update_slice_in_dim(maxima, best, number * per_block, 0)

    blocks = -(-items // block)
    start = jnp.full((blocks * per_block, queries.shape[0]), -jnp.inf, jnp.float32)
    needed = jnp.minimum(-(-jnp.asarray(used, jnp.int32) // block), blocks)
    return lax.fori_loop(0, needed, step, start).T


def _first_row(group: Array, queries: int, items: int) -> Array:
    block = _block(queries, items)
    number, place = jnp.divmod(group, block // GROUP)
    return jnp.minimum(number * block, items - block) + place * GROUP


def _group_errors(error: Array, block: int) -> Array:
    """Take the largest rounding error of every group, groups counted as `_group_maxima` does."""
    items = error.shape[0]
    block = min(block, items // GROUP * GROUP)
    whole = items // block * block
    parts = [error[:whole].reshape(-1, GROUP)]
    if whole < items:
        parts.append(error[items - block :].reshape(-1, GROUP))
    return jnp.max(jnp.concatenate(parts), axis=1)


def _dot(values: Array, queries: Array) -> Float[Array, "rows queries"]:
    if queries.dtype == jnp.int8:
        dims = (((1,), (1,)), ((), ()))
        exact = lax.dot_general(values, queries, dims, preferred_element_type=jnp.int32)
        return exact.astype(jnp.float32)
    return jnp.matmul(values.astype(jnp.float32), queries.T, precision=lax.Precision.HIGHEST)


def _score_groups(
    queries: Array, rows: Rows, where: Array, groups: Array, k: int
) -> tuple[Array, Array]:
    """Score all rows of each query's groups and keep the k best."""
    count, (items, dim) = queries.shape[0], rows.values.shape
    block = _block(count, items)
    groups = jnp.sort(groups, axis=1)  # then a tie goes to the lower row
    firsts = _first_row(groups, count, items)
    floors = groups // (block // GROUP) * block  # rows below belong to the block before
    inside = jnp.arange(GROUP, dtype=jnp.int32)

    def one(args: tuple[Array, ...]) -> tuple[Array, Array]:
        query, first, floor, mask = args
        take = jax.vmap(lambda at: lax.dynamic_slice(rows.values, (at, 0), (GROUP, dim)))
        ids = (first[:, None] + inside).reshape(-1)
        scores = _dot(take(first).reshape(-1, dim), query[None])[:, 0] * rows.scale[ids]
        scores = jnp.where(mask[ids] & (ids >= jnp.repeat(floor, GROUP)), scores, -jnp.inf)
        values, places = lax.top_k(scores, k)
        return values, jnp.where(values > -jnp.inf, ids[places], -1)

    if where.shape[0] == 1:
        return lax.map(lambda args: one((*args, where[0])), (queries, firsts, floors))
    return lax.map(one, (queries, firsts, floors, where))


def _score_all(queries: Array, rows: Rows, where: Array, k: int) -> tuple[Array, Array]:
    items = rows.values.shape[0]
    # A matrix product may round the last rows of an odd count in another order than the others,
    # which would break ties.
    values = jnp.pad(rows.values, ((0, -items % GROUP), (0, 0)))
    scores = _dot(values, queries)[:items] * rows.scale[:, None]
    scores = jnp.where(where, scores.T, -jnp.inf)
    values, places = lax.top_k(scores, min(k, scores.shape[1]))
    found = jnp.where(values > -jnp.inf, places, -1)
    short = ((0, 0), (0, k - values.shape[1]))
    return (
        jnp.pad(values, short, constant_values=-jnp.inf),
        jnp.pad(found, short, constant_values=-1),
    )


def by_chunks(
    function: Callable[[Array, Array], Results],
    queries: Array,
    where: Array,
    largest: int,
) -> Results:
    """Apply a function of (queries, where) to equal chunks of at most `largest` queries."""
    count = queries.shape[0]
    if count <= largest:
        return function(queries, where)
    chunks = -(-count // largest)
    size = -(-count // chunks)
    short = chunks * size - count

    def split(part: Array) -> Array:
        return jnp.pad(part, ((0, short), (0, 0))).reshape(chunks, size, -1)

    if where.shape[0] == 1:
        parts = lax.map(lambda part: function(part, where), split(queries))
    else:
        parts = lax.map(lambda args: function(*args), (split(queries), split(where)))
    return jax.tree.map(lambda part: part.reshape(chunks * size, *part.shape[2:])[:count], parts)
