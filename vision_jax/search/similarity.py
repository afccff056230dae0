"""Cosine similarity and exact top-k search as pure functions on device."""

from functools import partial
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.by_platform import search
from vision_jax.search.kernel import RawRows, Rows
from vision_jax.search.min_score import MinScore, at_least_on_device, check_min_score


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


def cosine_similarity(queries: ArrayLike, gallery: ArrayLike) -> Float[Array, "queries items"]:
    """Compute the cosine of the angle between every query and every gallery vector.

    Pure: it may be jitted, mapped and differentiated.

    Args:
        queries: (Q, D) real numbers, any scale.
        gallery: (N, D) real numbers, any scale.

    Returns:
        (Q, N) float32 in [-1, 1] up to rounding; 0 where either vector is zero, NaN where either
        holds NaN or infinity.

    Raises:
        InputError: If an argument is no matrix of real numbers, or the widths differ.

    >>> import numpy as np
    >>> from vision_jax.search import cosine_similarity
    >>> np.asarray(cosine_similarity([[1, 0], [3, 3]], [[2, 0], [0, 1]])).round(3)
    array([[1.   , 0.   ],
           [0.707, 0.707]], dtype=float32)
    """
    left, right = matching(queries, gallery)
    left, right = (normalize(part.astype(jnp.float32)) for part in (left, right))
    return jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST)


def cosine_top_k(
    queries: ArrayLike,
    gallery: ArrayLike,
    k: SupportsIndex,
    *,
    normalized: bool = False,
    min_score: MinScore | None = None,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Find each query's k most similar gallery vectors, exactly.

    Pure: it may be jitted (with `k` static), and differentiated through the scores. The gallery
    streams through in blocks: besides it, memory holds a few bytes per gallery row and the scores
    of one block for at most 512 queries, however many there are; on GPU and TPU about 1 GiB.

    Args:
        queries: (Q, D) real numbers, any scale. A query that holds NaN or infinity finds nothing.
        gallery: (N, D) real numbers, float32 or bfloat16 for speed, of any scale for which the
            squared length is a float32. A row that holds NaN or infinity is never found; a zero
            row scores 0.
        k: How many neighbours, at least 1; static under `jit`. It may exceed N.
        normalized: Declare that gallery rows have length 1 and are finite, which saves a pass
            over them.
        min_score: Least cosine, in [-1, 1] and compared as float32: what scores less is not found,
            what scores the same is. It may be traced.

    Returns:
        `(scores, ids)`, both (Q, k): cosines in float32, best first, and int32 row numbers of
        `gallery`. Ties go to the lower id. Where fewer than k rows may be found the missing places
        hold -inf and -1.

    Raises:
        InputError: If an argument is no matrix of real numbers, the widths differ, k is less than
            1, or min_score is no cosine.

    >>> import numpy as np
    >>> from vision_jax.search import cosine_top_k
    >>> scores, ids = cosine_top_k([[1, 2]], [[5, 0], [0, 5], [1, 1]], k=2)
    >>> np.asarray(ids)
    array([[2, 1]], dtype=int32)
    >>> np.asarray(scores).round(3)
    array([[0.949, 0.894]], dtype=float32)
    """
    asked, rows = matching(queries, gallery)
    check_min_score(min_score)
    scores, ids = _cosine_top_k(asked, rows, arrays.count("k", k), normalized)
    return (scores, ids) if min_score is None else at_least_on_device(scores, ids, min_score)


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
    """Find as `cosine_top_k` does, among the rows that `where` allows, (1, N) or (Q, N)."""
    items = gallery.shape[0]
    asked = normalize(queries.astype(jnp.float32))
    sound = jnp.all(jnp.isfinite(asked), axis=1, keepdims=True)
    rows = Rows(gallery, jnp.ones((items,), jnp.float32)) if normalized else RawRows(gallery)
    scores, ids = search(jnp.where(sound, asked, 0.0), rows, where, items, k)
    return jnp.where(sound, scores, -jnp.inf), jnp.where(sound, ids, -1)


def matching(
    queries: ArrayLike, gallery: ArrayLike
) -> tuple[Float[Array, "queries dim"], Float[Array, "items dim"]]:
    """Return queries and gallery as matrices on the device.

    Raises:
        InputError: If one is no matrix of real numbers, or the widths differ.
    """
    asked, rows = arrays.on_device("queries", queries), arrays.on_device("gallery", gallery)
    if asked.shape[1] != rows.shape[1]:
        raise InputError(
            f"queries has shape {asked.shape} and gallery {rows.shape}; the same width is needed"
        )
    return asked, rows
