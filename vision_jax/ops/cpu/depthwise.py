"""Depthwise convolutions: each channel convolved apart, as a sum of shifted and scaled images.

XLA:CPU runs them, and more so their gradients, many times slower than these few multiplications of
whole images, which it fuses and vectorises. Numbers of fewer than 32 bits are summed in float32.
"""

import math
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops.cpu.blocks import sum_blocks
from vision_jax.ops.cpu.im2col import KERNEL_GRAD_BLOCK, views
from vision_jax.ops.cpu.xla import Padding, Pair

# Weights of the largest kernel for this form, whose program grows with them.
LARGEST = 121


def forward(
    x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, dilation: Pair
) -> jax.Array:
    """Convolve NHWC images with a (rows, columns, 1, features) kernel.

    Features are a multiple of the channels; each channel has as many in turn.
    """
    dtype, x, kernel = _wide(x, kernel)
    x = _repeat(x, kernel.shape[3])
    return _sum_views(x, kernel, strides, padding, dilation).astype(dtype)


def input_grad(
    g: jax.Array,
    kernel: jax.Array,
    *,
    size: Pair,
    strides: Pair,
    padding: Padding,
    dilation: Pair,
    channels: int,
) -> jax.Array:
    """Transpose `forward` in its images, whose height and width are `size`."""
    dtype, g, kernel = _wide(g, kernel)
    edges = [
        ((k - 1) * d - before, n + before - (out - 1) * s - 1, s - 1)
        for k, d, n, s, out, (before, _) in zip(
            kernel.shape[:2], dilation, size, strides, g.shape[1:3], padding, strict=True
        )
    ]
    spread = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    turned = jnp.flip(kernel, (0, 1))
    grad = _sum_views(spread, turned, (1, 1), ((0, 0), (0, 0)), dilation)
    if g.shape[3] != channels:
        grad = grad.reshape(*grad.shape[:3], channels, -1).sum(4)
    return grad.astype(dtype)


def kernel_grad(
    x: jax.Array, g: jax.Array, *, size: Pair, strides: Pair, padding: Padding, dilation: Pair
) -> jax.Array:
    """Transpose `forward` in its kernel, whose height and width are `size`."""
    dtype, x, g = _wide(x, g)
    x = _repeat(x, g.shape[3])

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        seen = views(x, size, strides, padding, dilation=dilation)
        return jnp.stack([(view * g).sum((0, 1, 2)) for view in seen])

    bytes_each = 4 * (math.prod(x.shape[1:]) + math.prod(g.shape[1:]))
    grad = sum_blocks(block, x, g, bytes_each, KERNEL_GRAD_BLOCK)
    return grad.reshape(*size, 1, -1).astype(dtype)


def _sum_views(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, dilation: Pair
) -> jax.Array:
    """Add up what each weight sees, scaled by it; there are as many channels as features."""
    # The barrier keeps what produces the images out of the sum, which would recompute it for each
    # weight.
    x = lax.optimization_barrier(x)
    seen = views(x, kernel.shape[:2], strides, padding, dilation=dilation)
    weights = kernel.reshape(-1, kernel.shape[3])
    return reduce(jnp.add, (view * weight for view, weight in zip(seen, weights, strict=True)))


def _repeat(x: jax.Array, features: int) -> jax.Array:
    """Repeat each channel for each of its features."""
    return x if x.shape[3] == features else jnp.repeat(x, features // x.shape[3], axis=3)


def _wide(a: jax.Array, b: jax.Array) -> tuple[jnp.dtype, jax.Array, jax.Array]:
    """Return the operands' type, and both in 32 bits or more."""
    wide = a.dtype if jnp.finfo(a.dtype).bits >= 32 else jnp.dtype(jnp.float32)
    return a.dtype, a.astype(wide), b.astype(wide)
