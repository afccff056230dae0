"""Cosine similarity and exact top-k search as pure functions on device."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vision_jax.search.kernel import Rows, search

# Two widths that must be equal carry two names, so that a user who gives unequal ones meets the
# ValueError and not a type checker.


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
    *,
    normalized: bool = False,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Find each query's k most similar gallery vectors, exactly.

    The gallery streams through in blocks: besides it, memory holds a few bytes per gallery row and
    the scores of one block for at most 512 queries, however many there are.

    Args:
        queries: (Q, D), any scale. A query with a NaN or an infinity finds nothing.
        gallery: (N, D), float32 or bfloat16, any scale for which the squared length is a float32.
            A row with a NaN or an infinity is never found; a zero row scores 0.
        k: How many neighbours, at least 1; static under `jit`. It may exceed N.
        normalized: Says that gallery rows have length 1 and are finite, which saves a pass over
            them.

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
    return _cosine_top_k(queries, gallery, k, normalized)


@partial(jax.jit, static_argnums=(2, 3))
def _cosine_top_k(queries: Array, gallery: Array, k: int, normalized: bool) -> tuple[Array, Array]:
    where = jnp.ones((1, gallery.shape[0]), bool)
    return masked_top_k(queries, gallery, where, k, normalized=normalized)


def masked_top_k(
    queries: Float[Array, "queries dim"],
    gallery: Float[Array, "items dim"],
    where: Bool[Array, "masks items"],
    k: int,
    *,
    normalized: bool = False,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Do as `cosine_top_k` among the rows that `where` allows, (1, N) or (Q, N)."""
    items = gallery.shape[0]
    asked = normalize(queries.astype(jnp.float32))
    sound = jnp.all(jnp.isfinite(asked), axis=1, keepdims=True)
    scale = jnp.ones((items,), jnp.float32)
    if not normalized:
        square = jnp.sum(jnp.square(gallery.astype(jnp.float32)), axis=1)
        where = where & jnp.isfinite(square)
        scale = jnp.where(square > 0, lax.rsqrt(square), 0.0)
    scores, ids = search(jnp.where(sound, asked, 0.0), Rows(gallery, scale), where, items, k)
    return jnp.where(sound, scores, -jnp.inf), jnp.where(sound, ids, -1)


def _check_widths(queries: Array, gallery: Array) -> None:
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            "queries and gallery must be matrices of the same width, "
            f"got {queries.shape} and {gallery.shape}"
        )
