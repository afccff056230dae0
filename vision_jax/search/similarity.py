"""Cosine similarity and exact top-k search as pure functions on device."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Two widths that must be equal carry two names, so that a user who gives unequal ones meets the
# ValueError and not a type checker.

BLOCK = 16_384


def normalize(vectors: Float[Array, "rows dim"]) -> Float[Array, "rows dim"]:
    """Scale each row to unit length.

    Args:
        vectors: Any float dtype, which the result keeps; the norm is taken in float32.

    Returns:
        Rows of Euclidean length 1. A zero row stays zero.
    """
    rows = vectors.astype(jnp.float32)
    # Dividing by the largest entry first keeps squares from overflowing and underflowing.
    peak = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
    rows = rows / jnp.where(peak > 0, peak, 1.0)
    norm = jnp.sqrt(jnp.sum(rows * rows, axis=1, keepdims=True))
    return (rows / jnp.where(norm > 0, norm, 1.0)).astype(vectors.dtype)


def cosine_similarity(
    queries: Float[Array, "queries dim"], gallery: Float[Array, "items width"]
) -> Float[Array, "queries items"]:
    """Compute the cosine of the angle between every query and every gallery vector.

    Args:
        queries: (Q, D), any scale.
        gallery: (N, D), any scale.

    Returns:
        (Q, N) float32 in [-1, 1] up to rounding; 0 where either vector is zero.

    Raises:
        ValueError: if the two widths differ.
    """
    _check_widths(queries, gallery)
    left = normalize(queries.astype(jnp.float32))
    right = normalize(gallery.astype(jnp.float32))
    return jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST)


def cosine_top_k(
    queries: Float[Array, "queries dim"],
    gallery: Float[Array, "items width"],
    k: int,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Find each query's k most similar gallery vectors, exactly.

    The gallery streams through in blocks, so memory grows with the block and not with Q·N.

    Args:
        queries: (Q, D), any scale.
        gallery: (N, D), any scale.
        k: How many neighbours, at least 1; static under `jit`. It may exceed N.

    Returns:
        `(scores, ids)`, both (Q, k): cosines in float32, best first, and int32 row numbers of
        `gallery`. Ties go to the lower id. Where the gallery has fewer than k rows the missing
        places hold -inf and -1.

    Raises:
        ValueError: if the two widths differ, or k is less than 1.
    """
    _check_widths(queries, gallery)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return top_k_where(queries, gallery, jnp.ones((1, gallery.shape[0]), bool), k)


@partial(jax.jit, static_argnums=3)
def top_k_where(
    queries: Float[Array, "queries dim"],
    gallery: Float[Array, "items width"],
    where: Bool[Array, "masks items"],
    k: int,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Do as `cosine_top_k` among the rows that `where` allows, (1, N) or (Q, N)."""
    queries = normalize(queries.astype(jnp.float32))
    size = gallery.shape[0]
    block = min(BLOCK, size)
    best = (
        jnp.full((queries.shape[0], k), -jnp.inf, jnp.float32),
        jnp.full((queries.shape[0], k), -1, jnp.int32),
    )
    if not block:
        return best

    def step(best: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
        # The last block reaches back over rows already seen, which must not be counted twice.
        begin = jnp.minimum(start, size - block)
        rows = lax.dynamic_slice_in_dim(gallery, begin, block)
        ids = begin + jnp.arange(block, dtype=jnp.int32)
        allowed = lax.dynamic_slice_in_dim(where, begin, block, 1) & (ids >= start)
        scores = jnp.where(allowed, cosine_similarity(queries, rows), -jnp.inf)
        values, places = lax.top_k(scores, min(k, block))
        found = jnp.where(values > -jnp.inf, ids[places], -1)
        values = jnp.concatenate([best[0], values], axis=1)
        found = jnp.concatenate([best[1], found], axis=1)
        values, places = lax.top_k(values, k)
        return (values, jnp.take_along_axis(found, places, axis=1)), None

    starts = jnp.arange(0, size, block, dtype=jnp.int32)
    return lax.scan(step, best, starts)[0]


def _check_widths(queries: Array, gallery: Array) -> None:
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            "queries and gallery must be matrices of the same width, "
            f"got {queries.shape} and {gallery.shape}"
        )
