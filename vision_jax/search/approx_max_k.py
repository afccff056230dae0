"""Approximate cosine search by `lax.approx_max_k`, which is fast on TPU only."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vision_jax.search.batching import in_parts, pad_rows
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.kernel import DENSE_SCORES, by_chunks
from vision_jax.search.protocol import Found
from vision_jax.search.similarity import normalize

RECALL = 0.95


def build(rows: DeviceRows, slots: Int[np.ndarray, " items"]) -> "ApproxMaxK":
    """Build the method; see `protocol.Build`."""
    return ApproxMaxK(rows.vectors(slots))


class ApproxMaxK:
    """Score every vector, and select approximately.

    Chern et al. 2022, "TPU-KNN: K nearest neighbor search at peak FLOP/s". On other devices the
    selection is exact and slower than the exact method's.

    Args:
        vectors: (N, D) float32, each with a direction.
    """

    def __init__(self, vectors: Float[np.ndarray, "items dim"]) -> None:
        self._vectors = normalize(jnp.asarray(vectors))

    def search(
        self,
        queries: Float[np.ndarray, "queries dim"],
        k: int,
        where: Bool[np.ndarray, "masks items"] | None = None,
    ) -> Found:
        """Find about the k nearest vectors of each query; see `protocol.Method`."""
        every = np.ones((1, self._vectors.shape[0]), bool)
        mask = every if where is None else where

        def find(part: slice, short: int) -> tuple[Array, Array]:
            allowed = mask if len(mask) == 1 else pad_rows(mask[part], short)
            asked = pad_rows(queries[part], short)
            return _search(jnp.asarray(asked), self._vectors, jnp.asarray(allowed), k)

        scores, found = in_parts(find, len(queries))
        return scores, found


@partial(jax.jit, static_argnums=3)
def _search(queries: Array, rows: Array, where: Array, k: int) -> tuple[Array, Array]:
    def part(queries: Array, where: Array) -> tuple[Array, Array]:
        scores = jnp.where(where, normalize(queries) @ rows.T, -jnp.inf)
        values, found = lax.approx_max_k(scores, k, recall_target=RECALL)
        return values, jnp.where(values > -jnp.inf, found, -1)

    chunk = max(1, DENSE_SCORES // max(1, rows.shape[0]))
    return by_chunks(part, queries, where, chunk)
