"""Convolution and its gradients as XLA's own operation."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

LAYOUT = ("NHWC", "HWIO", "NHWC")

# Whether XLA is one whose CPU is slower at some operations; each use says at which.
OLDER = jax.__version_info__ < (0, 11)


def pad(x: jax.Array, edges: Sequence[Pair], fill: float | np.ndarray = 0.0) -> jax.Array:
    """Surround an array with `fill`; a negative edge cuts."""
    return lax.pad(x, jnp.full((), fill, x.dtype), [(before, after, 0) for before, after in edges])


def forward(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair,
    padding: Padding,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Convolve NHWC images with an HWIO kernel.

    Edges that cut, or reach beyond the kernel, are applied to the image first: older XLA:CPU reads
    outside of the image where one edge cuts and the other pads, in a gradient where an edge
    reaches beyond the kernel.
    """
    reach = [(k - 1) * d for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    inner = [
        (min(max(before, 0), most), min(max(after, 0), most))
        for most, (before, after) in zip(reach, padding, strict=True)
    ]
    outer = [(a - c, b - d) for (a, b), (c, d) in zip(padding, inner, strict=True)]
    if any(map(any, outer)):
        x = pad(x, ((0, 0), *outer, (0, 0)))
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        inner,
        rhs_dilation=dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def input_grad(
    g: jax.Array, kernel: jax.Array, *, size: Pair, groups: int = 1, **options: Any
) -> jax.Array:
    """Transpose `forward` in its images, whose height and width are `size`."""
    like_x = jax.ShapeDtypeStruct((g.shape[0], *size, kernel.shape[2] * groups), g.dtype)

    def convolve(x: jax.Array) -> jax.Array:
        return forward(x, kernel, groups=groups, **options)

    return jax.linear_transpose(convolve, like_x)(g)[0]


def kernel_grad(
    x: jax.Array, g: jax.Array, *, size: Pair, groups: int = 1, **options: Any
) -> jax.Array:
    """Transpose `forward` in its kernel, whose height and width are `size`."""
    like_kernel = jax.ShapeDtypeStruct((*size, x.shape[3] // groups, g.shape[3]), x.dtype)

    def convolve(kernel: jax.Array) -> jax.Array:
        return forward(x, kernel, groups=groups, **options)

    return jax.linear_transpose(convolve, like_kernel)(g)[0]
