"""Loops over parts of a batch small enough for their intermediate values to stay in cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def block_length(length: int, limit: int) -> int:
    """Return the largest divisor of `length` near `limit`, else `limit`; never more than it."""
    limit = max(1, min(length, limit))
    divisors = (n for n in range(limit, limit // 2, -1) if length % n == 0)
    return next(divisors, limit)


def map_blocks(
    block: Callable[[jax.Array], jax.Array], x: jax.Array, bytes_each: int, budget: int
) -> jax.Array:
    """Apply `block` to as many images at a time as the budget holds."""
    length = block_length(x.shape[0], budget // bytes_each)
    whole = x.shape[0] // length * length
    if whole == length:
        results = block(x[:whole])
    else:
        results = lax.map(block, x[:whole].reshape(-1, length, *x.shape[1:]))
        results = results.reshape(whole, *results.shape[2:])
    return results if whole == x.shape[0] else jnp.concatenate([results, block(x[whole:])])


def sum_blocks(
    block: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    g: jax.Array,
    bytes_each: int,
    budget: int,
) -> jax.Array:
    """Sum `block` over as many images at a time as the budget holds."""
    length = block_length(x.shape[0], budget // bytes_each)
    whole = x.shape[0] // length * length
    if whole == length:
        total = block(x[:whole], g[:whole])
    else:
        xs, gs = (a[:whole].reshape(-1, length, *a.shape[1:]) for a in (x, g))
        zero = jnp.zeros(jax.eval_shape(block, xs[0], gs[0]).shape, x.dtype)
        total, _ = lax.scan(lambda sum_, xg: (sum_ + block(*xg), None), zero, (xs, gs))
    return total if whole == x.shape[0] else total + block(x[whole:], g[whole:])


def map_rows(
    block: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    *,
    height: int,
    window: int,
    stride: int,
    limit: int,
) -> jax.Array:
    """Apply `block` to at most `limit` of each image's `height` result rows at a time.

    A row of results sees `window` rows of an image, the next one those `stride` further down. The
    last blocks move up to fit the image and compute some rows twice.
    """
    tiles = -(-height // max(1, limit))
    rows = -(-height // tiles)
    seen = (1, (rows - 1) * stride + window, *x.shape[2:])
    result = jax.eval_shape(block, jax.ShapeDtypeStruct(seen, x.dtype))

    def tile(index: jax.Array, results: jax.Array) -> jax.Array:
        image, row = index // tiles, jnp.minimum(index % tiles * rows, height - rows)
        part = block(lax.dynamic_slice(x, (image, row * stride, 0, 0), seen))
        return lax.dynamic_update_slice(results, part, (image, row, 0, 0))

    empty = jnp.zeros((x.shape[0], height, *result.shape[2:]), result.dtype)
    return lax.fori_loop(0, x.shape[0] * tiles, tile, empty)
