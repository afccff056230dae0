"""1x1 convolutions without padding: one matrix product over the channels.

XLA:CPU runs them as convolutions, below the product's rate and, on older versions, only with
padding at full speed, which small images pay for.
"""

import jax
from jax import lax

from vision_jax.ops.cpu.xla import Pair


def forward(x: jax.Array, kernel: jax.Array, strides: Pair) -> jax.Array:
    """Convolve NHWC images with a (1, 1, channels, features) kernel."""
    x = _seen(x, strides)
    y = x.reshape(-1, x.shape[3]) @ kernel[0, 0]
    return y.reshape(*x.shape[:3], -1)


def input_grad(g: jax.Array, kernel: jax.Array, strides: Pair, size: Pair) -> jax.Array:
    """Transpose `forward` in its images, whose height and width are `size`."""
    grad = g.reshape(-1, g.shape[3]) @ kernel[0, 0].T
    grad = grad.reshape(*g.shape[:3], -1)
    if strides == (1, 1):
        return grad
    edges = [
        (0, n - (out - 1) * s - 1, s - 1)
        for n, s, out in zip(size, strides, g.shape[1:3], strict=True)
    ]
    return lax.pad(grad, grad.dtype.type(0), [(0, 0, 0), *edges, (0, 0, 0)])


def kernel_grad(x: jax.Array, g: jax.Array, strides: Pair) -> jax.Array:
    """Transpose `forward` in its kernel."""
    x = _seen(x, strides)
    grad = x.reshape(-1, x.shape[3]).T @ g.reshape(-1, g.shape[3])
    return grad[None, None]


def _seen(x: jax.Array, strides: Pair) -> jax.Array:
    """Return the pixels that a stride does not skip."""
    return x[:, :: strides[0], :: strides[1]]
