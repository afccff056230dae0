"""Max pooling and its derivatives: the maximum, and two linear maps that it selects."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from vision_jax.ops.cpu.im2col import views
from vision_jax.ops.cpu.primitive import fold_batch, make_primitive
from vision_jax.ops.cpu.xla import Padding, Pair


def native_max_pool(x: jax.Array, *, window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    """Take the maximum over windows by XLA's own operation; padding is the lowest value."""
    return lax.reduce_window(
        x,
        _lowest(x),
        lax.max,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *padding, (0, 0)),
    )


def native_gather(x: jax.Array, values: jax.Array, **kw: Any) -> jax.Array:
    """Take `values` at the place of each window's first maximum of `x`."""
    return jax.jvp(lambda x: native_max_pool(x, **kw), (x,), (values,))[1]


def native_scatter(x: jax.Array, values: jax.Array, **kw: Any) -> jax.Array:
    """Add each window's value at the place of its first maximum of `x`."""
    return jax.vjp(lambda x: native_max_pool(x, **kw), x)[1](values)[0]


def _lowest(x: jax.Array) -> np.ndarray:
    """Return the value that never wins: minus infinity, or an integer type's lowest."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        return np.array(jnp.iinfo(x.dtype).min, x.dtype)
    return np.array(-np.inf, x.dtype)


def cpu_max_pool(x: jax.Array, *, window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    """Take the maximum by a chain over strided slices, which XLA:CPU fuses and vectorises.

    The barrier keeps what produces `x` out of that chain, where it would be recomputed for each
    window.
    """
    first, *rest = views(lax.optimization_barrier(x), window, strides, padding, _lowest(x))
    for view in rest:
        first = lax.max(first, view)
    return first


def cpu_gather(
    x: jax.Array, values: jax.Array, *, window: Pair, strides: Pair, padding: Padding
) -> jax.Array:
    """Do what `native_gather` does by a chain of selections over strided slices."""
    best, *rest = views(x, window, strides, padding, _lowest(x))
    taken, *others = views(values, window, strides, padding)
    for view, other in zip(rest, others, strict=True):
        keep = best >= view
        best, taken = jnp.where(keep, best, view), jnp.where(keep, taken, other)
    return taken


def cpu_scatter(
    x: jax.Array, values: jax.Array, *, window: Pair, strides: Pair, padding: Padding
) -> jax.Array:
    """Do what `native_scatter` does by transposing `cpu_gather`."""

    def gather(like_x: jax.Array) -> jax.Array:
        return cpu_gather(x, like_x, window=window, strides=strides, padding=padding)

    return jax.linear_transpose(gather, x)(values)[0]


max_pool_p = make_primitive("max_pool", native=native_max_pool, cpu=cpu_max_pool, batch=fold_batch)
gather_p = make_primitive("max_pool_gather", native=native_gather, cpu=cpu_gather, batch=fold_batch)
scatter_p = make_primitive(
    "max_pool_scatter", native=native_scatter, cpu=cpu_scatter, batch=fold_batch
)


def max_pool(x: jax.Array, *, window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    """Take the maximum over windows of NHWC images; ties give their gradient to the first."""
    return max_pool_p.bind(x, window=window, strides=strides, padding=padding)


def _transpose_gather(g: Any, x: jax.Array, values: Any, **kw: Any) -> tuple[None, Any]:
    return None, ad.Zero(values.aval) if type(g) is ad.Zero else scatter_p.bind(x, g, **kw)


def _transpose_scatter(g: Any, x: jax.Array, values: Any, **kw: Any) -> tuple[None, Any]:
    return None, ad.Zero(values.aval) if type(g) is ad.Zero else gather_p.bind(x, g, **kw)


# The selection is constant almost everywhere: only the values have a derivative.
ad.defjvp(max_pool_p, lambda t, x, **kw: gather_p.bind(x, t, **kw))
ad.defjvp(gather_p, None, lambda t, x, _, **kw: gather_p.bind(x, t, **kw))
ad.defjvp(scatter_p, None, lambda t, x, _, **kw: scatter_p.bind(x, t, **kw))
ad.primitive_transposes[gather_p] = _transpose_gather
ad.primitive_transposes[scatter_p] = _transpose_scatter
