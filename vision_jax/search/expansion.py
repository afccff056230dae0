"""Better rankings from the rankings themselves: query expansion and database augmentation."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.search.similarity import cosine_top_k, normalize


@partial(jax.jit, static_argnames=("k",))
def expand_queries(
    queries: Float[Array, "queries dim"],
    gallery: Float[Array, "items dim"],
    *,
    k: int = 10,
    alpha: float | Float[Array, ""] = 0.0,
) -> Float[Array, "queries dim"]:
    """Add to each query its k nearest gallery vectors, each weighted by its cosine to the alpha.

    Args:
        queries: (Q, D), any scale but zero.
        gallery: (N, D), any scale but zero.
        k: How many neighbours, at least 1.
        alpha: At least 0. With 0 all weigh the same: average query expansion (Chum et al. 2007,
            "Total recall"). Radenović et al. 2018, "Fine-tuning CNN image retrieval with no human
            annotation", take 3.

    Returns:
        (Q, D) of length 1, to be searched for in place of the queries.
    """
    asked = normalize(queries)
    scores, ids = cosine_top_k(asked, gallery, k)
    # A neighbour pointing away must not pull, and its power would be no number.
    weights = jnp.where(ids >= 0, jnp.maximum(scores, 0.0) ** alpha, 0.0)

    def one(args: tuple[Array, Array, Array]) -> Array:
        query, weights, ids = args
        return query + weights @ normalize(gallery[ids])

    return normalize(jax.lax.map(one, (asked, weights, ids)))


@partial(jax.jit, static_argnames=("k",))
def augment_database(
    gallery: Float[Array, "items dim"], *, k: int = 10, alpha: float | Float[Array, ""] = 0.0
) -> Float[Array, "items dim"]:
    """Replace each gallery vector by the weighted mean of itself and its k nearest others.

    Turcot and Lowe 2009, "Better matching with fewer features"; Gordo et al. 2017, "End-to-end
    learning of deep visual representations for image retrieval".

    Args:
        gallery: (N, D), any scale but zero.
        k: How many neighbours, at least 1.
        alpha: As for `expand_queries`.

    Returns:
        (N, D) of length 1.
    """
    rows = normalize(gallery)
    scores, ids = cosine_top_k(rows, rows, k + 1, normalized=True)
    itself = ids == jnp.arange(rows.shape[0], dtype=jnp.int32)[:, None]
    # Among many equal vectors the list may miss the vector itself: then its last place goes.
    itself = itself.at[:, -1].set(itself[:, -1] | ~jnp.any(itself, axis=1))
    weights = jnp.where(itself | (ids < 0), 0.0, jnp.maximum(scores, 0.0) ** alpha)

    def one(args: tuple[Array, Array, Array]) -> Array:
        row, weights, ids = args
        return row + weights @ rows[ids]

    return normalize(jax.lax.map(one, (rows, weights, ids)))
