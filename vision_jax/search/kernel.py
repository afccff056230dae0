"""Exact top-k over a large gallery: bound every group of rows, then score the few best groups.

The gallery passes through the matrix product in blocks that fit in cache. Each block keeps only the
best score of every group of consecutive rows. The k best rows lie in the k best groups: a row
outside them has k groups before it, each with a row that scores higher, or as high with a lower
number. So only those groups are scored row by row. The same holds for scores known within a bound,
so the first pass may run in int8 or bfloat16.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

Results = TypeVar("Results", bound=tuple[Array, ...])

GROUP = 32  # rows of a group
CHUNK = 128  # queries per pass over the gallery
BLOCK = 4096  # with 128 scores a row, 2 MiB of scores: about a core's cache
CACHED = 2 << 20  # bytes of a block's rows, and of its scores, for at most `CHUNK` queries
FEW_BLOCK = 16_384  # rows of a block at most
WIDE = 256  # from this width on, reading rows takes longer than choosing groups; then
WIDE_GROUP = 8
WIDE_BYTES_GROUP = 16  # of rows in int8
WIDE_CHUNK = 512  # older XLA's product in bfloat16 is slow for fewer
OLDER = jax.__version_info__ < (0, 11)
WIDEST_BYTES = (2**31 - 1) // 127**2  # dimensions whose products in int8 add up in int32
MANY = 128  # from so many queries on, older XLA multiplies faster in bfloat16 than in int8
EXCESS = 6  # groups scored beyond k, since two products may round the same score differently
DENSE = 4096  # a gallery up to this size is scored whole
FEW = 16  # so few queries meet all of the rows in one product, whose scores need no cache
DENSE_SCORES = 1 << 24  # how many scores to hold at a time, there and with `FEW` queries


class Rows(NamedTuple):
    """Gallery vectors as stored: row i stands for `scale[i] * values[i]`.

    `values` is (N, D) float32, bfloat16 or int8; `scale` is (N,) float32.
    """

    values: Shaped[Array, "items dim"]
    scale: Float[Array, " items"]


class RawRows(NamedTuple):
    """Gallery vectors of any length: row i stands for `values[i]` scaled to length 1.

    `values` is (N, D) float32 or bfloat16.
    """

    values: Shaped[Array, "items dim"]


class Coarse(NamedTuple):
    """Rounded vectors, and the length of each row's rounding error.

    `error` is a single 0 if rounding lost nothing.
    """

    rows: Rows
    error: Float[Array, " items"] | Float[Array, ""]


def round_to(vectors: Float[Array, "items dim"], dtype: str) -> Coarse:
    """Round each row.

    Args:
        vectors: (N, D) float32.
        dtype: "bfloat16"; or "int8": 127 steps on either side of zero, scaled so that a row's
            largest entry is the last step.
    """
    scale = jnp.ones(vectors.shape[:1], jnp.float32)
    if dtype == "int8":
        scale = jnp.max(jnp.abs(vectors), axis=1) / 127.0
        scale = jnp.where(scale > 0, scale, 1.0)
        values = jnp.round(vectors / scale[:, None]).astype(jnp.int8)
    else:
        values = vectors.astype(dtype)
    lost = vectors - values.astype(jnp.float32) * scale[:, None]
    return Coarse(Rows(values, scale), jnp.sqrt(jnp.sum(lost * lost, axis=1)))


def measured(
    rows: Rows | RawRows, where: Bool[Array, "masks items"]
) -> tuple[Rows, Bool[Array, "masks items"]]:
    """Scale raw rows, and leave out those whose squared length is not finite.

    Args:
        rows: (N, D).
        where: (1, N) or (Q, N), the rows that may be found.
    """
    if isinstance(rows, Rows):
        return rows, where
    scale, sound = scales(rows.values)
    return Rows(rows.values, scale), where & sound


def scales(
    values: Shaped[Array, "*rows dim"],
) -> tuple[Float[Array, "*rows"], Bool[Array, "*rows"]]:
    """Return what scales each row to length 1, and whether its squared length is finite."""
    square = jnp.sum(jnp.square(values.astype(jnp.float32)), axis=-1)
    return jnp.where(square > 0, lax.rsqrt(square), 0.0), jnp.isfinite(square)


def shortlist_size(k: int) -> int:
    """Return how many groups a first, rounded pass passes on to be scored row by row.

    The excess over k leaves room for groups whose bound is high though their rows are not.
    """
    return 2 * k + 28


def is_dense(items: int, k: int) -> bool:
    """Say whether a gallery is so small, or k so large, that every row is scored."""
    return items <= max(DENSE, GROUP * shortlist_size(k))


class _Sizes(NamedTuple):
    """Queries at a time, rows of a block, and rows of a group."""

    chunk: int
    block: int
    group: int


def _sizes(queries: int, rows: Rows, read: Rows | None = None) -> _Sizes:
    """Choose the sizes of a pass.

    Args:
        queries: How many.
        rows: What is scored row by row.
        read: What the first pass reads; `rows` by default.
    """
    (items, dim), wide = rows.values.shape, rows.values.shape[1] >= WIDE
    chunk = min(WIDE_CHUNK if wide or _in_bfloat16(queries, read) else CHUNK, queries)
    if chunk > CHUNK:
        block = BLOCK // 2
    else:
        row = dim * (read or rows).values.dtype.itemsize
        most = max(GROUP, min(FEW_BLOCK, CACHED // row, CACHED // (4 * chunk)))
        block = 1 << (most.bit_length() - 1)
    group = WIDE_BYTES_GROUP if rows.values.dtype == jnp.int8 else WIDE_GROUP
    return _Sizes(chunk, min(block, items // GROUP * GROUP), group if wide else GROUP)


def _in_bfloat16(queries: int, read: Rows | None) -> bool:
    """Say whether to multiply int8 rows with queries in bfloat16."""
    if read is None or read.values.dtype != jnp.int8:
        return False
    return read.values.shape[1] > WIDEST_BYTES or (OLDER and queries >= MANY)


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
        return by_chunks(lambda q, w: score_all(q, rows, w, k), queries, where, chunk)

    sizes = _sizes(queries.shape[0], rows)

    def choose(best: Array, queries: Array, where: Array, sizes: _Sizes) -> tuple[Array, Array]:
        _, groups = lax.top_k(best, k + EXCESS)

        def one(query: Array, groups: Array, mask: Array) -> tuple[Array, Array]:
            return _score_groups(query, rows, mask, groups, k, sizes)

        return _each(one, (queries, groups), where)

    def part(queries: Array, where: Array) -> tuple[Array, Array]:
        return choose(_group_maxima(queries, rows, where, used, sizes), queries, where, sizes)

    def in_blocks() -> tuple[Array, Array]:
        return by_chunks(part, queries, where, sizes.chunk)

    def at_once() -> tuple[Array, Array]:
        apart = sizes._replace(block=sizes.group)
        return choose(_all_maxima(queries, rows, where, sizes.group), queries, where, apart)

    few = queries.shape[0] <= min(FEW, DENSE_SCORES // items)
    if not few or rows.values.dtype != jnp.float32:  # others would be copied as a whole
        return in_blocks()
    return lax.cond(4 * jnp.asarray(used, jnp.float32) >= 3 * items, at_once, in_blocks)


def search_coarse(
    queries: Float[Array, "queries dim"],
    rows: Rows,
    coarse: Coarse,
    where: Bool[Array, "masks items"],
    used: Int[Array, ""] | int,
    k: int,
    dtype: str,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"], Bool[Array, " queries"]]:
    """Search by a first pass over rounded rows, and say which queries' results are proven exact.

    Let q = q' + d be a query and x = x' + e a row, where q' and x' are rounded. Then
    <q, x> = <q', x'> + <q', e> + <d, x>, at most <q', x'> + |q'| |e| + |d| |x|, which bounds every
    group from above. A result is proven when all other groups are bounded below the k-th score.
    Half the shortlist is scored first and often suffices.

    Args:
        queries: (Q, D) float32 of length 1.
        rows: (N, D), standing for vectors of length 1; `is_dense` does not hold.
        coarse: The same vectors, rounded.
        where: As for `search`.
        used: As for `search`.
        k: At least 1, static.
        dtype: Rounding of the queries, as for `round_to`; int8 rows allow bfloat16 queries.
    """
    # Sums in float32 are off by no more than this, and so are the lengths measured by them.
    slack = (rows.values.shape[1] + 16) * 2.0**-22
    sizes, count = _sizes(queries.shape[0], rows, coarse.rows), shortlist_size(k)
    if _in_bfloat16(queries.shape[0], coarse.rows):
        dtype = "bfloat16"
    errors = _group_errors(coarse.error, sizes) if coarse.error.ndim else coarse.error

    def part(queries: Array, where: Array) -> tuple[Array, Array, Array]:
        asked = round_to(queries, dtype)
        best = _group_maxima(asked.rows.values, coarse.rows, where, used, sizes)
        length = 1.0 + asked.error[:, None]
        bound = best * asked.rows.scale[:, None] + length * errors + asked.error[:, None]
        # A slice of its result would be merged into the selection and make it a whole sort.
        bounds, groups = lax.optimization_barrier(lax.top_k(bound, count))
        left_out = jnp.stack([bounds[:, count // 2], bounds[:, -1]], axis=1)

        def one(
            query: Array, groups: Array, left_out: Array, mask: Array
        ) -> tuple[Array, Array, Array]:
            def scored(groups: Array) -> tuple[Array, Array]:
                return _score_groups(query, rows, mask, groups, k, sizes)

            def proven(scores: Array, bound: Array) -> Array:
                return (bound < scores[-1] - slack) | (bound == -jnp.inf)

            first = scored(groups[: count // 2])
            enough = proven(first[0], left_out[0])
            scores, found = lax.cond(enough, lambda: first, lambda: scored(groups))
            return scores, found, enough | proven(scores, left_out[1])

        return _each(one, (queries, groups, left_out), where)

    return by_chunks(part, queries, where, sizes.chunk)


def merge(
    first: tuple[Array, Array], second: tuple[Array, Array], k: int
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Keep the k best of two lists of `(scores, ids)`; ties go to the first, then to the left."""
    scores, ids = (jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True))
    values, places = lax.top_k(scores, k)
    return values, jnp.take_along_axis(ids, places, axis=1)


def _group_maxima(
    queries: Array, rows: Rows, where: Array, used: Array | int, sizes: _Sizes
) -> Float[Array, "queries groups"]:
    """Take each group's best score; -inf where no row of it may be found."""
    items, (_, block, group) = rows.values.shape[0], sizes
    per_block = block // group

    def step(number: Array, maxima: Array) -> Array:
        # The last block reaches back over rows of the one before, so that all have one shape.
        begin = jnp.minimum(number * block, items - block)
        values, scale = (lax.dynamic_slice_in_dim(part, begin, block) for part in rows)
        allowed = lax.dynamic_slice_in_dim(where, begin, block, 1)
        allowed &= begin + jnp.arange(block, dtype=jnp.int32) >= number * block
        scores = jnp.where(allowed.T, _dot(values, queries) * scale[:, None], -jnp.inf)
        best = jnp.max(scores.reshape(per_block, group, -1), axis=1)
        return lax.dynamic_update_slice_in_dim(maxima, best, number * per_block, 0)

    blocks = -(-items // block)
    start = jnp.full((blocks * per_block, queries.shape[0]), -jnp.inf, jnp.float32)
    needed = jnp.minimum(-(-jnp.asarray(used, jnp.int32) // block), blocks)
    return lax.fori_loop(0, needed, step, start).T


def _all_maxima(
    queries: Array, rows: Rows, where: Array, group: int
) -> Float[Array, "queries groups"]:
    """Take each group's best score as `_group_maxima` does, by one product of all rows."""
    scores = jnp.where(where.T, _dot(rows.values, queries) * rows.scale[:, None], -jnp.inf)
    short = -scores.shape[0] % group
    scores = jnp.pad(scores, ((0, short), (0, 0)), constant_values=-jnp.inf)
    return jnp.max(scores.reshape(-1, group, queries.shape[0]), axis=1).T


def _group_errors(error: Array, sizes: _Sizes) -> Array:
    """Take the largest rounding error of every group, groups counted as `_group_maxima` does."""
    items, (_, block, group) = error.shape[0], sizes
    whole = items // block * block
    parts = [error[:whole].reshape(-1, group)]
    if whole < items:
        parts.append(error[items - block :].reshape(-1, group))
    return jnp.max(jnp.concatenate(parts), axis=1)


def _dot(values: Array, queries: Array) -> Float[Array, "rows queries"]:
    dims = (((1,), (1,)), ((), ()))
    if queries.dtype == jnp.int8:
        exact = lax.dot_general(values, queries, dims, preferred_element_type=jnp.int32)
        return exact.astype(jnp.float32)
    values = values.astype(queries.dtype)  # int8 in bfloat16 is exact
    highest = lax.Precision.HIGHEST
    return lax.dot_general(values, queries, dims, highest, preferred_element_type=jnp.float32)


def _each(function: Callable[..., Results], parts: tuple[Array, ...], where: Array) -> Results:
    """Apply a function of (*parts, mask) to one query at a time."""
    if where.shape[0] == 1:
        return lax.map(lambda args: function(*args, where[0]), parts)
    return lax.map(lambda args: function(*args), (*parts, where))


def _score_groups(
    query: Array, rows: Rows, mask: Array, groups: Array, k: int, sizes: _Sizes
) -> tuple[Array, Array]:
    """Score all rows of one query's groups and keep the k best."""
    items, (_, block, group) = rows.values.shape[0], sizes
    number, place = jnp.divmod(jnp.sort(groups), block // group)  # so a tie goes to the lower row
    # The last block reaches back; its rows below `floor` belong to the block before.
    first, floor = jnp.minimum(number * block, items - block) + place * group, number * block
    take = jax.vmap(lambda at: lax.dynamic_slice_in_dim(rows.values, at, group))
    ids = (first[:, None] + jnp.arange(group, dtype=jnp.int32)).reshape(-1)
    scores = _dot(take(first).reshape(-1, query.shape[0]), query[None])[:, 0] * rows.scale[ids]
    scores = jnp.where(mask[ids] & (ids >= jnp.repeat(floor, group)), scores, -jnp.inf)
    values, places = lax.top_k(scores, k)
    return values, jnp.where(values > -jnp.inf, ids[places], -1)


def score_all(queries: Array, rows: Rows, where: Array, k: int) -> tuple[Array, Array]:
    """Find as `search` does, by all scores at once."""
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
