"""Exact top-k, in the form that suits the platform a program is lowered for."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vision_jax.search import kernel, tiled
from vision_jax.search.kernel import Coarse, RawRows, Rows


def search(
    queries: Float[Array, "queries dim"],
    rows: Rows | RawRows,
    where: Bool[Array, "masks items"],
    used: Int[Array, ""] | int,
    k: int,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Find as `kernel.search` does, in rows of length 1 or of any length.

    Args:
        queries: (Q, D) float32 of length 1, or zero.
        rows: (N, D).
        where: As for `kernel.search`.
        used: As for `kernel.search`.
        k: As for `kernel.search`.
    """

    if not queries.shape[0]:
        return jnp.zeros((0, k), jnp.float32), jnp.zeros((0, k), jnp.int32)

    def cached(queries: Array, rows: Rows | RawRows, where: Array) -> tuple[Array, Array]:
        scaled, where = kernel.measured(rows, where)
        return kernel.search(queries, scaled, where, used, k)

    def in_tiles(queries: Array, rows: Rows | RawRows, where: Array) -> tuple[Array, Array]:
        return tiled.search(queries, rows, where, used, k)

    found: tuple[Array, Array] = lax.platform_dependent(
        queries, rows, where, cpu=cached, default=in_tiles
    )
    return found


def search_coarse(
    queries: Float[Array, "queries dim"],
    rows: Rows,
    coarse: Coarse,
    where: Bool[Array, "masks items"],
    used: Int[Array, ""] | int,
    k: int,
    dtype: str,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"], Bool[Array, " queries"]]:
    """Find as `kernel.search_coarse` does; a CPU alone rounds queries to another dtype than rows.

    Args:
        queries: As for `kernel.search_coarse`.
        rows: As for `kernel.search_coarse`.
        coarse: As for `kernel.search_coarse`.
        where: As for `kernel.search_coarse`.
        used: As for `kernel.search_coarse`.
        k: As for `kernel.search_coarse`.
        dtype: As for `kernel.search_coarse`; accelerators take bfloat16.
    """

    def cached(
        queries: Array, rows: Rows, coarse: Coarse, where: Array
    ) -> tuple[Array, Array, Array]:
        return kernel.search_coarse(queries, rows, coarse, where, used, k, dtype)

    def in_tiles(
        queries: Array, rows: Rows, coarse: Coarse, where: Array
    ) -> tuple[Array, Array, Array]:
        return tiled.search_coarse(queries, rows, coarse, where, used, k)

    found: tuple[Array, Array, Array] = lax.platform_dependent(
        queries, rows, coarse, where, cpu=cached, default=in_tiles
    )
    return found
