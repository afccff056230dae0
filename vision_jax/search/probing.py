"""Score the lists of an inverted file that are nearest to each query.

A CPU takes one query at a time, whose rows fit its cache. On a GPU or TPU, where each such step
would be a launch, all queries go through together, grouped by page: a page is read once for the
many queries that ask for it, and multiplied with them.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from vision_jax.search.kernel import EXCESS, by_chunks
from vision_jax.search.similarity import normalize
from vision_jax.search.tiled import GATHERED, top

PAGE = 32  # rows
MOST = 128  # queries that share the reading of a page


class Pages(NamedTuple):
    """Vectors in pages of equal size, each of one list.

    Attributes:
        rows: (P, R, D) float32, bfloat16 or int8.
        scale: (P, R) what a row must be multiplied with to have length 1; None where it has.
        ids: (P, R) -1 where there is none.
        owner: (P,) the page's list, ascending.
    """

    rows: Shaped[Array, "pages page dim"]
    scale: Float[Array, "pages page"] | None
    ids: Int[Array, "pages page"]
    owner: Int[Array, " pages"]


def probe(
    queries: Float[Array, "queries dim"],
    centroids: Float[Array, "lists dim"],
    pages: Pages,
    where: Bool[Array, "masks items"] | None,
    k: int,
    budget: int,
    axis: str | None = None,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Find the k best rows of the `budget` pages whose lists are nearest to each query.

    Args:
        queries: (Q, D) of any length.
        centroids: (L, D) of length 1.
        pages: The lists; with `axis`, this device's rows of every page.
        where: (1, N) or (Q, N) which ids may be found; pages without any come last.
        k: At least 1.
        budget: How many pages, at most P.
        axis: The name of the axis over which devices share the rows of each page.

    Returns:
        `(scores, ids)`: cosines, best first, ties by the lower id; -inf and -1 where there is none.
    """
    best, ids = lax.platform_dependent(
        normalize(queries),
        centroids,
        jnp.zeros((1, 0), bool) if where is None else where,
        cpu=partial(in_turn, pages=pages, k=k, budget=budget, axis=axis),
        default=partial(by_page, pages=pages, k=k, budget=budget, axis=axis),
    )
    if axis is not None:
        best, ids = (
            jnp.moveaxis(part, 0, 1).reshape(len(queries), -1)
            for part in lax.all_gather((best, ids), axis)
        )
        best, ids = _order(best, ids)
    short = ((0, 0), (0, max(0, k - best.shape[1])))
    best = jnp.pad(best[:, :k], short, constant_values=-jnp.inf)
    return best, jnp.pad(ids[:, :k], short, constant_values=-1)


def in_turn(
    asked: Float[Array, "queries dim"],
    centroids: Float[Array, "lists dim"],
    where: Bool[Array, "masks items"],
    *,
    pages: Pages,
    k: int,
    budget: int,
    axis: str | None = None,
) -> tuple[Float[Array, "queries few"], Int[Array, "queries few"]]:
    """Find as `probe` does, one query at a time, up to k of the rows that are looked at.

    Args:
        asked: (Q, D) of length 1.
        centroids: As for `probe`.
        where: As for `probe`; (1, 0) for all.
        pages: As for `probe`.
        k: As for `probe`.
        budget: As for `probe`.
        axis: As for `probe`.
    """
    chosen = _choose(asked, centroids, pages, where, budget, axis, lax.map)

    def one(query: Array, chosen: Array, mask: Array) -> tuple[Array, Array]:
        rows = pages.rows[chosen].astype(jnp.float32)
        rows = rows.reshape(-1, rows.shape[-1])
        scores = jnp.matmul(rows, query, precision=lax.Precision.HIGHEST)
        if pages.scale is not None:
            scores *= pages.scale[chosen].reshape(-1)
        best, ids = _settle(query[None], pages, chosen[None], mask[None], scores[None], k)
        return best[0], ids[0]

    if where.shape[0] > 1:
        return lax.map(lambda args: one(*args), (asked, chosen, where))
    return lax.map(lambda args: one(args[0], args[1], where[0]), (asked, chosen))


def by_page(
    asked: Float[Array, "queries dim"],
    centroids: Float[Array, "lists dim"],
    where: Bool[Array, "masks items"],
    *,
    pages: Pages,
    k: int,
    budget: int,
    axis: str | None = None,
    held: int = GATHERED,
) -> tuple[Float[Array, "queries few"], Int[Array, "queries few"]]:
    """Find as `probe` does, many queries at a time, up to k of the rows that are looked at.

    Args:
        asked: As for `in_turn`.
        centroids: As for `probe`.
        where: As for `in_turn`.
        pages: As for `probe`.
        k: As for `probe`.
        budget: As for `probe`.
        axis: As for `probe`.
        held: Bytes to hold at a time.
    """

    def part(asked: Array, where: Array) -> tuple[Array, Array]:
        chosen = _choose(asked, centroids, pages, where, budget, axis, _at_once)
        return _settle(asked, pages, chosen, where, _score_by_page(asked, pages, chosen), k)

    most = _part_size(asked.shape[0], pages, budget, held, each=where.shape[0] > 1)
    return by_chunks(part, asked, where, most)


def _choose(
    asked: Array,
    centroids: Array,
    pages: Pages,
    where: Array,
    budget: int,
    axis: str | None,
    over: Callable[[Callable[[Array], Array], Array], Array],
) -> Int[Array, "queries budget"]:
    """Choose the pages to look at."""
    near = jnp.matmul(asked, centroids.T, precision=lax.Precision.HIGHEST)[:, pages.owner]
    if where.shape[1]:

        def holding(mask: Array) -> Array:
            return jnp.any(mask[jnp.maximum(pages.ids, 0)] & (pages.ids >= 0), axis=1)

        held = over(holding, where) if where.shape[0] > 1 else holding(where[0])[None]
        if axis is not None:
            held = lax.pmax(held, axis)
        near = jnp.where(held, near, -jnp.inf)
    return lax.top_k(near, budget)[1]


def _at_once(function: Callable[[Array], Array], rows: Array) -> Array:
    """Do as `lax.map` does, without a loop."""
    several: Array = jax.vmap(function)(rows)
    return several


def _part_size(queries: int, pages: Pages, budget: int, held: int, *, each: bool) -> int:
    """Return how many queries an accelerator looks at together, within so many bytes.

    Args:
        queries: How many there are.
        pages: The lists.
        budget: How many pages each query looks at.
        held: Bytes.
        each: Whether every query has a mask of its own.
    """
    count, page, dim = pages.rows.shape
    masks = count * page // 2 if each else 0  # two bytes a row

    def size(queries: int) -> int:
        blocks, lanes = _blocks(queries, budget, count)
        numbers = blocks * (page + lanes) * dim + blocks * lanes * page
        return 4 * (numbers + queries * (2 * count + masks + 4 * budget * page))

    while queries > 1 and size(queries) > held:
        queries = -(-queries // 2)
    return queries


def _blocks(queries: int, budget: int, pages: int) -> tuple[int, int]:
    """Return how many blocks hold all pairs of a query and a page, and the queries of a block."""
    pairs = queries * budget
    lanes = min(MOST, 1 << max(0, (pairs // pages).bit_length() - 1))
    return min(pairs, pairs // lanes + min(pages, pairs)), lanes


def _score_by_page(
    asked: Float[Array, "queries dim"], pages: Pages, chosen: Int[Array, "queries budget"]
) -> Float[Array, "queries rows"]:
    """Score the rows of every query's pages, page by page.

    Pairs of a query and a page are sorted by page and cut into blocks of one page and equally many
    queries; all blocks are multiplied at once.

    Args:
        asked: (Q, D) of length 1.
        pages: (P, R, D).
        chosen: (Q, B) pages.

    Returns:
        (Q, B · R).
    """
    count, page, _ = pages.rows.shape
    (queries, budget), pairs = chosen.shape, chosen.size
    blocks, lanes = _blocks(queries, budget, count)
    flat = chosen.reshape(-1)
    asking = jnp.zeros(count, jnp.int32).at[flat].add(1)
    order = jnp.argsort(flat, stable=True)
    place = jnp.arange(pairs, dtype=jnp.int32) - _before(asking)[flat[order]]
    needed = -(-asking // lanes)
    block = _before(needed)[flat[order]] + place // lanes
    at = block * lanes + place % lanes
    of_page = jnp.zeros(blocks, jnp.int32).at[block].set(flat[order])
    of_query = jnp.zeros(blocks * lanes, jnp.int32).at[at].set((order // budget).astype(jnp.int32))
    scores = jnp.einsum(
        "bqd,brd->bqr",
        asked[of_query].reshape(blocks, lanes, -1),
        pages.rows[of_page].astype(jnp.float32),
        precision=lax.Precision.HIGHEST,
    )
    if pages.scale is not None:
        scores *= pages.scale[of_page][:, None]
    back = jnp.zeros(pairs, jnp.int32).at[order].set(at)
    return scores.reshape(-1, page)[back].reshape(queries, budget * page)


def _before(counts: Array) -> Array:
    """Sum the counts before each; `cumsum` is a loop over all of them on a GPU in JAX 0.12."""
    sums: Array = lax.associative_scan(jnp.add, counts)
    return sums - counts


def _settle(
    asked: Array, pages: Pages, chosen: Array, where: Array, scores: Array, k: int
) -> tuple[Array, Array]:
    """Score the best rows again, in one way whatever way they were found in; order and cut them."""
    size, page = scores.shape[1], pages.ids.shape[1]
    ids = pages.ids[chosen].reshape(-1, size)
    sound = ids >= 0
    if where.shape[1]:
        at = jnp.maximum(ids, 0)
        sound &= where[0][at] if where.shape[0] == 1 else jnp.take_along_axis(where, at, axis=1)
    first, places = top(jnp.where(sound, scores, -jnp.inf), min(k + EXCESS, size))
    places = jnp.minimum(places, size - 1)
    at, lane = jnp.take_along_axis(chosen, places // page, axis=1), places % page
    # A sum and no product: it is float32 everywhere, and equal rows score equally.
    best = jnp.sum(pages.rows[at, lane].astype(jnp.float32) * asked[:, None], axis=2)
    if pages.scale is not None:
        best *= pages.scale[at, lane]
    found = jnp.take_along_axis(ids, places, axis=1)
    best, found = _order(jnp.where(first > -jnp.inf, best, -jnp.inf), found)
    return best[:, :k], found[:, :k]


def _order(best: Array, ids: Array) -> tuple[Array, Array]:
    """Sort by score, ties by the lower id; the id of a missing place is -1."""
    worst, ids = lax.sort((-best, ids), num_keys=2)
    return -worst, jnp.where(worst < jnp.inf, ids, -1)
