"""Better rankings from the rankings themselves: query expansion and database augmentation."""

from functools import partial
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.similarity import cosine_top_k, matching, normalize


def expand_queries(
    queries: ArrayLike,
    gallery: ArrayLike,
    *,
    k: SupportsIndex = 10,
    alpha: float | Float[Array, ""] = 0.0,
) -> Float[Array, "queries dim"]:
    """Add to each query its k nearest gallery vectors, weighted by the cosine's power of alpha.

    Pure: it may be jitted, with `k` static.

    Args:
        queries: (Q, D) real numbers, any scale. A query that holds NaN or infinity stays NaN.
        gallery: (N, D) real numbers of any scale that `cosine_top_k` takes. A row that holds NaN or
            infinity adds to no query.
        k: How many neighbours, at least 1.
        alpha: At least 0. With 0 all weigh the same: average query expansion (Chum et al. 2007,
            "Total recall"). Radenović et al. 2018, "Fine-tuning CNN image retrieval with no human
            annotation", use 3.

    Returns:
        (Q, D) of length 1, to search for in place of the queries.

    Raises:
        InputError: If an argument is no matrix of real numbers, the widths differ, k is less than
            1, or alpha less than 0.
    """
    asked, rows = matching(queries, gallery)
    _check_alpha(alpha)
    if not len(rows):
        return normalize(asked.astype(jnp.float32))
    return _expand_queries(asked, rows, arrays.count("k", k), alpha)


@partial(jax.jit, static_argnums=2)
def _expand_queries(queries: Array, gallery: Array, k: int, alpha: float | Array) -> Array:
    asked = normalize(queries.astype(jnp.float32))
    scores, ids = cosine_top_k(asked, gallery, k)

    def one(args: tuple[Array, Array, Array]) -> Array:
        query, weights, ids = args
        near = normalize(gallery[ids].astype(jnp.float32))
        return query + weights @ jnp.where(ids[:, None] >= 0, near, 0.0)

    return normalize(jax.lax.map(one, (asked, _weights(scores, ids >= 0, alpha), ids)))


def augment_database(
    gallery: ArrayLike, *, k: SupportsIndex = 10, alpha: float | Float[Array, ""] = 0.0
) -> Float[Array, "items dim"]:
    """Replace each gallery vector by the weighted mean of itself and its k nearest others.

    Turcot and Lowe 2009, "Better matching with fewer features"; Gordo et al. 2017, "End-to-end
    learning of deep visual representations for image retrieval". Pure: it may be jitted, with `k`
    static.

    Args:
        gallery: (N, D) real numbers, any scale. A row that holds NaN or infinity stays NaN and
            adds to no other.
        k: How many neighbours, at least 1.
        alpha: As for `expand_queries`.

    Returns:
        (N, D) of length 1.

    Raises:
        InputError: If `gallery` is no matrix of real numbers, k is less than 1, or alpha less
            than 0.
    """
    _check_alpha(alpha)
    rows, count = arrays.on_device("gallery", gallery), arrays.count("k", k)
    return _augment_database(rows, count, alpha) if len(rows) else rows.astype(jnp.float32)


@partial(jax.jit, static_argnums=1)
def _augment_database(gallery: Array, k: int, alpha: float | Array) -> Array:
    rows = normalize(gallery.astype(jnp.float32))
    scores, ids = cosine_top_k(rows, rows, k + 1)
    itself = ids == jnp.arange(rows.shape[0], dtype=jnp.int32)[:, None]
    # Among many equal vectors the list may miss the vector itself: then its last place goes.
    itself = itself.at[:, -1].set(itself[:, -1] | ~jnp.any(itself, axis=1))

    def one(args: tuple[Array, Array, Array]) -> Array:
        row, weights, ids = args
        return row + weights @ jnp.where(ids[:, None] >= 0, rows[ids], 0.0)

    weights = _weights(scores, ~itself & (ids >= 0), alpha)
    return normalize(jax.lax.map(one, (rows, weights, ids)))


def _weights(scores: Array, counted: Array, alpha: float | Array) -> Array:
    """Raise cosines to a power; ignore negative ones, whose fractional powers are NaN."""
    return jnp.where(counted, jnp.maximum(scores, 0.0) ** alpha, 0.0)


def _check_alpha(alpha: float | Array) -> None:
    if not isinstance(alpha, jax.core.Tracer) and not alpha >= 0:
        raise InputError(f"alpha is {alpha}; at least 0 is needed")
