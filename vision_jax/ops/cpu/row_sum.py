"""The sum over the last axis and its transpose."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from vision_jax.ops.cpu.primitive import fold_batch, make_primitive


def native_sum(rows: jax.Array) -> jax.Array:
    """Sum each row."""
    return rows.sum(1)


def cpu_sum(rows: jax.Array) -> jax.Array:
    """Sum each row by a product with ones.

    XLA:CPU fuses a sum with what produces its terms, such as a loss's logarithms, and then computes
    them one at a time. Before a product they have a vectorised loop of their own.
    """
    return rows @ jnp.ones(rows.shape[1], rows.dtype)


row_sum_p = make_primitive("row_sum", native=native_sum, cpu=cpu_sum, batch=fold_batch)


def _transpose(g: jax.Array, rows: Any) -> list[jax.Array]:
    return [jnp.broadcast_to(g[:, None], rows.aval.shape)]


ad.deflinear2(row_sum_p, _transpose)


def row_sum(rows: jax.Array) -> jax.Array:
    """Sum each row of a matrix."""
    return row_sum_p.bind(rows)
