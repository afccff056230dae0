"""Exact top-k for GPU and TPU: the kernel's proof by groups of rows, in few large steps.

Queries go through together. The gallery passes in tiles of many rows through a product in bfloat16,
which matrix units run fastest; each tile keeps the best bound of every group of consecutive rows.
Each query's best groups are then scored in float32, by sums that no matrix unit rounds. A result is
proven when all other groups are bounded below its k-th score; where one is not, the product runs
again in float32. The parts of `kernel` that look at one query at a time suit a CPU's cache; here
each such step would be a launch.
"""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vision_jax.search.kernel import (
    EXCESS,
    GROUP,
    Coarse,
    RawRows,
    Rows,
    by_chunks,
    is_dense,
    measured,
    round_to,
    scales,
    score_all,
    shortlist_size,
)

QUERIES = 8192  # at a time
GATHERED = 1 << 32  # bytes of rows to score for the queries at a time, were they copied
FAN = 32  # groups of a larger group, as far as few are chosen of many
DYNAMIC_ROWS = 1 << 21  # rows of a tile where tiles beyond the last used row are left out
FEW = 8  # below so many queries, reading rows takes longer than a product in float32
ROUNDING = 2.0**-8  # of a number to bfloat16, relative


class Form(NamedTuple):
    """How much a pass holds at a time.

    Attributes:
        tile: Scores of a tile.
        kept: Group bounds held before the best are chosen.
    """

    tile: int = 1 << 26
    kept: int = 1 << 26


FORM = Form()


class _Gallery(NamedTuple):
    """Rows, which of them may be found, and how many are used."""

    rows: Rows | RawRows
    where: Array
    used: Array | int


class _Pass(NamedTuple):
    """What a pass over the gallery multiplies, and what bounds its rounding.

    A row's bound is `scale * <query, row> + weight * error`, where queries are (Q, D) of the type
    that the product takes, and `weight` is (Q,) or None where the product is exact.
    """

    queries: Array
    weight: Array | None
    error: Array | None


class _Plan(NamedTuple):
    """A gallery's groups, cut into slabs of tiles."""

    groups: int  # whole ones
    tile: int  # groups of a tile
    tiles: int  # of a slab
    slabs: int

    @property
    def slab(self) -> int:
        return min(self.tile * self.tiles, self.groups)


def _plan(items: int, queries: int, static: bool, form: Form) -> _Plan:
    groups = items // GROUP
    most = form.tile // (GROUP * queries)
    if not static:
        most = min(most, DYNAMIC_ROWS // GROUP)
    tiles = -(-groups // max(1, most))
    per_slab = max(1, form.kept // queries * tiles // groups)
    slabs = -(-tiles // per_slab)
    per_slab = -(-tiles // slabs)
    return _Plan(groups, -(-groups // (per_slab * slabs)), per_slab, slabs)


def search(
    queries: Float[Array, "queries dim"],
    rows: Rows | RawRows,
    where: Bool[Array, "masks items"],
    used: Int[Array, ""] | int,
    k: int,
    form: Form = FORM,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Find as `kernel.search` does.

    Args:
        queries: (Q, D) float32 of length at most 1, up to rounding.
        rows: (N, D) of length at most 1, or of any.
        where: As for `kernel.search`.
        used: As for `kernel.search`.
        k: As for `kernel.search`.
        form: How much to hold at a time.
    """
    items = rows.values.shape[0]
    if is_dense(items, k):
        scaled, where = measured(rows, where)
        most = max(1, form.tile // max(1, items))
        return by_chunks(lambda q, w: score_all(q, scaled, w, k), queries, where, most)

    def exact(queries: Array, where: Array) -> tuple[Array, Array]:
        gallery = _Gallery(rows, where, used)
        first = _Pass(lax.stop_gradient(queries), None, None)
        _, groups = _best_groups(first, gallery, k + EXCESS, form)
        return _score_groups(queries, gallery, groups, k)

    def part(queries: Array, where: Array) -> tuple[Array, Array]:
        if queries.shape[0] < FEW:
            return exact(queries, where)
        lossless = rows.values.dtype.name in ("int8", "bfloat16")
        error = jnp.float32(0.0 if lossless else ROUNDING)
        gallery = _Gallery(rows, where, used)
        scores, found, proven = _prove(queries, gallery, rows, error, k, form)
        return lax.cond(jnp.all(proven), lambda *_: (scores, found), exact, queries, where)

    return by_chunks(part, queries, where, _at_once(rows, k, form))


def search_coarse(
    queries: Float[Array, "queries dim"],
    rows: Rows,
    coarse: Coarse,
    where: Bool[Array, "masks items"],
    used: Int[Array, ""] | int,
    k: int,
    form: Form = FORM,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"], Bool[Array, " queries"]]:
    """Find as `kernel.search_coarse` does; the queries of the first pass are in bfloat16."""

    def part(queries: Array, where: Array) -> tuple[Array, Array, Array]:
        gallery = _Gallery(rows, where, used)
        return _prove(queries, gallery, coarse.rows, coarse.error, k, form)

    return by_chunks(part, queries, where, _at_once(rows, k, form))


def _at_once(rows: Rows | RawRows, k: int, form: Form) -> int:
    row = rows.values.shape[1] * rows.values.dtype.itemsize
    return max(1, min(QUERIES, GATHERED // (shortlist_size(k) * GROUP * row)))


def _prove(
    queries: Array,
    gallery: _Gallery,
    rounded: Rows | RawRows,
    error: Array,
    k: int,
    form: Form,
) -> tuple[Array, Array, Array]:
    """Score the groups that a rounded pass bounds highest, and compare with the others' bounds."""
    slack = (queries.shape[1] + 16) * 2.0**-22  # see `kernel.search_coarse`
    asked = round_to(lax.stop_gradient(queries), "bfloat16")
    first = _Pass(asked.rows.values, 1.0 + asked.error, error)
    count = shortlist_size(k)
    bounds, groups = _best_groups(first, gallery._replace(rows=rounded), count, form)
    scores, found = _score_groups(queries, gallery, groups, k)
    # Minima and no slices, which would be merged into the selection and make it a whole sort.
    left_out = jnp.min(bounds, axis=1) + asked.error
    proven = left_out < jnp.min(lax.stop_gradient(scores), axis=1) - slack
    return scores, found, proven | (left_out == -jnp.inf)


def _best_groups(
    first: _Pass, gallery: _Gallery, count: int, form: Form
) -> tuple[Float[Array, "queries groups"], Int[Array, "queries groups"]]:
    """Choose each query's groups of the highest bound, ties by the lower.

    Group i begins at row i * GROUP; one more ends with the last row where the others do not.

    Returns:
        `(bounds, groups)`, best first; -1 where no row may be found.
    """
    gallery = gallery._replace(rows=lax.stop_gradient(gallery.rows))
    items, queries, used = gallery.rows.values.shape[0], first.queries.shape[0], gallery.used
    plan = _plan(items, queries, isinstance(used, int), form)

    def slab(number: Array | int, best: tuple[Array, Array]) -> tuple[Array, Array]:
        start = jnp.minimum(number * plan.slab, plan.groups - plan.slab)
        maxima = _slab_maxima(first, gallery, plan, start)
        fresh = start + jnp.arange(plan.slab, dtype=jnp.int32) >= number * plan.slab
        bounds, chosen = top(jnp.where(fresh, maxima, -jnp.inf), count)
        return _merge(best, (bounds, start + chosen), count)

    if plan.slabs == 1:
        none = jnp.zeros((queries, 0), jnp.float32), jnp.zeros((queries, 0), jnp.int32)
        best = slab(0, none)
    else:
        start = jnp.full((queries, count), -jnp.inf), jnp.zeros((queries, count), jnp.int32)
        needed = _needed(used, plan.slab * GROUP, plan.slabs)
        best = lax.fori_loop(0, needed, slab, start)
    if items % GROUP:
        floor = plan.groups * GROUP
        last = _group_maxima(first, gallery, items - GROUP, 1, floor)
        best = _merge(best, (last, jnp.full_like(last, plan.groups, dtype=jnp.int32)), count)
    return best[0], jnp.where(best[0] > -jnp.inf, best[1], -1)


def _slab_maxima(
    first: _Pass, gallery: _Gallery, plan: _Plan, start: Array
) -> Float[Array, "queries groups"]:
    """Bound a slab's groups, a tile at a time; the last tile reaches back over the one before."""

    def tile(number: Array | int, maxima: Array) -> Array:
        place = jnp.minimum(number * plan.tile, plan.slab - plan.tile)
        begin = (start + place) * GROUP
        best = _group_maxima(first, gallery, begin, plan.tile)
        return lax.dynamic_update_slice_in_dim(maxima, best, place, 1)

    if plan.tiles == 1:
        return _group_maxima(first, gallery, start * GROUP, plan.slab)
    maxima = jnp.full((first.queries.shape[0], plan.slab), -jnp.inf, jnp.float32)
    left = gallery.used if isinstance(gallery.used, int) else gallery.used - start * GROUP
    return lax.fori_loop(0, _needed(left, plan.tile * GROUP, plan.tiles), tile, maxima)


def _needed(used: Array | int, rows: int, most: int) -> Array | int:
    """Count the steps of so many rows that hold used ones; an int, if known, is not counted."""
    return most if isinstance(used, int) else jnp.clip(-(-used // rows), 0, most)


def _group_maxima(
    first: _Pass,
    gallery: _Gallery,
    begin: Array | int,
    groups: int,
    floor: int = 0,
) -> Float[Array, "queries groups"]:
    """Bound consecutive groups from the row `begin` on; rows below `floor` do not count."""
    rows, size = gallery.rows, groups * GROUP
    take = partial(lax.dynamic_slice_in_dim, start_index=begin, slice_size=size)
    values = take(rows.values)
    allowed = lax.dynamic_slice_in_dim(gallery.where, begin, size, 1).T
    if floor:
        allowed &= (begin + jnp.arange(size, dtype=jnp.int32) >= floor)[:, None]
    if isinstance(rows, Rows):
        scale = take(rows.scale)
    else:
        scale, sound = scales(values)
        allowed &= sound[:, None]
    bounds = _product(values, first.queries) * scale[:, None]
    if first.weight is not None and first.error is not None:
        error = take(first.error) if first.error.ndim else first.error
        bounds += first.weight * error.reshape(-1, 1)
    bounds = jnp.where(allowed, bounds, -jnp.inf)
    return jnp.max(bounds.reshape(groups, GROUP, -1), axis=1).T


def _product(values: Array, queries: Array) -> Float[Array, "rows queries"]:
    """Multiply in the type of the queries; what is rounded is rounded up."""
    exact = queries.dtype == jnp.float32
    if queries.shape[0] == 1:  # bound by reading rows, and in float32 whatever a product would be
        return jnp.sum(values.astype(jnp.float32) * queries.astype(jnp.float32), axis=1)[:, None]
    # Left to itself, a GPU would multiply float32 in TF32 and a TPU in bfloat16.
    precision = lax.Precision.HIGHEST if exact else lax.Precision.DEFAULT
    dims = (((1,), (1,)), ((), ()))
    values = values.astype(queries.dtype)  # int8 in bfloat16 is exact
    scores = lax.dot_general(values, queries, dims, precision, preferred_element_type=queries.dtype)
    if exact:
        return scores
    # Writing and reading scores takes longer than the product: bfloat16 halves that. The barrier
    # keeps the product from giving float32 after all.
    scores = lax.optimization_barrier(scores).astype(jnp.float32)
    return scores + ROUNDING * jnp.abs(scores)


def top(values: Array, count: int) -> tuple[Array, Array]:
    """Choose as `lax.top_k` does, by way of larger groups where few are chosen of many.

    The best lie in the groups whose maxima are best. Places beyond the values may be chosen, with
    -inf.
    """
    queries, size = values.shape
    if size <= 2 * FAN * count:
        best, places = lax.top_k(values, min(count, size))
        return best, places
    short = ((0, 0), (0, -size % FAN))
    fans = jnp.pad(values, short, constant_values=-jnp.inf).reshape(queries, -1, FAN)
    _, chosen = top(jnp.max(fans, axis=2), count)
    chosen = jnp.sort(chosen, axis=1)  # so a tie goes to the lower place
    inside = jnp.take_along_axis(fans, chosen[:, :, None], axis=1, mode="clip")
    best, places = top(inside.reshape(queries, -1), count)
    fan, place = jnp.divmod(places, FAN)
    return best, jnp.take_along_axis(chosen, fan, axis=1, mode="clip") * FAN + place


def _merge(
    first: tuple[Array, Array], second: tuple[Array, Array], count: int
) -> tuple[Array, Array]:
    """Keep the best of two lists of bounds and groups; ties go to the first."""
    if not first[0].shape[1]:
        return second
    bounds, groups = (jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True))
    best, places = lax.top_k(bounds, count)
    return best, jnp.take_along_axis(groups, places, axis=1)


def _score_groups(queries: Array, gallery: _Gallery, groups: Array, k: int) -> tuple[Array, Array]:
    """Score all rows of every query's groups and keep the k best, ties by the lower row."""
    rows, where = gallery.rows, gallery.where
    groups = jnp.sort(groups, axis=1)[:, :, None]
    first = jnp.minimum(groups * GROUP, rows.values.shape[0] - GROUP)  # the last reaches back
    ids = first + jnp.arange(GROUP, dtype=jnp.int32)
    allowed = ((groups >= 0) & (ids >= groups * GROUP)).reshape(queries.shape[0], -1)
    ids = jnp.maximum(ids, 0).reshape(queries.shape[0], -1)
    values = rows.values.at[ids].get(mode="clip").astype(jnp.float32)
    # A sum and no product: it is float32 everywhere, and equal rows score equally.
    scores = jnp.sum(values * queries[:, None], axis=2)
    if isinstance(rows, Rows):
        scale = rows.scale.at[ids].get(mode="clip")
    else:
        scale, sound = scales(values)
        allowed &= sound
    if where.shape[0] == 1:
        allowed &= where[0].at[ids].get(mode="clip")
    else:
        allowed &= jnp.take_along_axis(where, ids, axis=1, mode="clip")
    best, places = top(jnp.where(allowed, scores * scale, -jnp.inf), k)
    ids = jnp.take_along_axis(ids, places, axis=1, mode="clip")
    return best, jnp.where(best > -jnp.inf, ids, -1)
