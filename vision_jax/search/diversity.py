"""Diversity: results that are relevant and unlike each other."""

from functools import partial
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.similarity import normalize


def check_mmr(value: float | None) -> None:
    """Refuse a lambda of maximal marginal relevance outside [0, 1]; None passes.

    Raises:
        InputError: If it is.
    """
    if value is not None and not 0 <= value <= 1:
        raise InputError(f"mmr is {value}; a number in [0, 1] is needed, 1 for no diversity")


def maximal_marginal_relevance(
    scores: Float[np.ndarray | Array, "queries candidates"],
    vectors: Float[np.ndarray | Array, "queries candidates dim"],
    k: SupportsIndex,
    *,
    mmr: float = 0.5,
) -> Int[np.ndarray, "queries k"]:
    """Choose k candidates one by one, each by its score less its likeness to those chosen.

    Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents and
    producing summaries", 1998: the next one maximises mmr · score - (1 - mmr) · (highest cosine to
    one chosen). The first one is the best by its score.

    Args:
        scores: (Q, C) of the candidates, best first; -inf for none.
        vectors: (Q, C, D) of the candidates, any scale.
        k: How many to choose, at least 1.
        mmr: The paper's lambda, in [0, 1]: 1 chooses by the score alone, as a plain search does, 0
            by unlikeness alone, after the first.

    Returns:
        (Q, k) places of the candidates, in the order chosen; equally good ones by the lower place,
        -1 where there are no more.

    Raises:
        InputError: If mmr is outside [0, 1], or k less than 1.
    """
    check_mmr(mmr)
    count = arrays.count("k", k)
    places = _choose(jnp.asarray(scores), jnp.asarray(vectors), min(count, scores.shape[1]), mmr)
    short = count - places.shape[1]
    return np.pad(np.asarray(places), ((0, 0), (0, short)), constant_values=-1)


@partial(jax.jit, static_argnums=2)
def _choose(scores: Array, vectors: Array, k: int, mmr: float | Array) -> Array:
    def one(scores: Array, vectors: Array) -> Array:
        rows = normalize(vectors.astype(jnp.float32))
        relevance = mmr * jnp.where(scores > -jnp.inf, scores, 0.0)

        def step(at: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            left, nearest, chosen = state
            penalty = jnp.where(at > 0, (1 - mmr) * nearest, 0.0)
            worth = jnp.where(left, relevance - penalty, -jnp.inf)
            best = jnp.argmax(worth).astype(jnp.int32)
            cosines = jnp.matmul(rows, rows[best], precision=lax.Precision.HIGHEST)
            chosen = chosen.at[at].set(jnp.where(left[best], best, -1))
            return left.at[best].set(False), jnp.maximum(nearest, cosines), chosen

        start = (scores > -jnp.inf, jnp.full(scores.shape, -1.0), jnp.full(k, -1, jnp.int32))
        return lax.fori_loop(0, k, step, start)[2]

    return jax.vmap(one)(scores, vectors)
