"""Convolution and its gradients as XLA's own operation."""

import jax
from jax import lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

LAYOUT = ("NHWC", "HWIO", "NHWC")

# Whether XLA is one whose CPU is slower at some operations; each use says at which.
OLDER = jax.__version_info__ < (0, 11)


def forward(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """The convolution."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def input_grad(
    g: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """The gradient of the input, `size` its height and width."""
    like_x = jax.ShapeDtypeStruct((g.shape[0], *size, kernel.shape[2]), g.dtype)

    def convolve(x: jax.Array) -> jax.Array:
        return forward(x, kernel, strides=strides, padding=padding)

    return jax.linear_transpose(convolve, like_x)(g)[0]


def kernel_grad(
    x: jax.Array, g: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """The gradient of the kernel, `size` its height and width."""
    like_kernel = jax.ShapeDtypeStruct((*size, x.shape[3], g.shape[3]), x.dtype)

    def convolve(kernel: jax.Array) -> jax.Array:
        return forward(x, kernel, strides=strides, padding=padding)

    return jax.linear_transpose(convolve, like_kernel)(g)[0]
