"""Convolutions as matrix products."""

import math
from collections.abc import Sequence
from functools import reduce
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.cpu import xla
from vision_jax.ops.cpu.blocks import map_blocks, map_rows, sum_blocks
from vision_jax.ops.cpu.xla import Padding, Pair, pad

# Bytes of a block's patch matrix (of no less than its kernel, which each block reads), and of a
# block's images and gradients for a kernel's gradient. Measured optima lie between 1 and 4 MB, on
# both sides of the second-level cache.
BLOCK = 4 << 20
KERNEL_GRAD_BLOCK = 2 << 20

# Bytes of a block of `forward_one_channel`'s result.
ONE_CHANNEL_BLOCK = 512 << 10

_NONE: Padding = ((0, 0), (0, 0))


def views(
    x: jax.Array,
    window: Sequence[int],
    strides: Pair,
    padding: Padding,
    fill: float | np.ndarray = 0.0,
    dilation: Pair = (1, 1),
) -> list[jax.Array]:
    """Return the pixels that each place of a window sees: one array of output size for each."""
    x = pad(x, ((0, 0), *padding, (0, 0)), fill)
    batch, height, width, channels = x.shape
    tall, wide = ((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))
    rows = (height - tall) // strides[0] * strides[0] + 1
    columns = (width - wide) // strides[1] * strides[1] + 1
    return [
        lax.slice(x, (0, i, j, 0), (batch, i + rows, j + columns, channels), (1, *strides, 1))
        for i, j in product(range(0, tall, dilation[0]), range(0, wide, dilation[1]))
    ]


def _patches(x: jax.Array, window: Sequence[int], strides: Pair) -> jax.Array:
    """Return the kernel's view from each output: (batch, height, width, window * channels)."""
    return jnp.concatenate(views(x, window, strides, _NONE), axis=3)


def turned(
    kernel: jax.Array, outputs: Sequence[int], padding: Padding, size: Pair
) -> tuple[jax.Array, Padding]:
    """Return the kernel and padding whose convolution is the input gradient at stride 1."""
    (top, bottom), (left, right) = (
        (window - 1 - edges[0], full - outer + edges[0])
        for window, edges, full, outer in zip(kernel.shape[:2], padding, size, outputs, strict=True)
    )
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3), ((top, bottom), (left, right))


def kernel_grad(
    x: jax.Array, g: jax.Array, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Convolve the images with the output gradient by XLA, the batch as channels.

    Within a loop XLA:CPU runs any other order of the dimensions twenty times slower; the barrier
    keeps XLA from folding the transpositions into the convolution again.
    """
    edges = [
        (before, (out - 1) * stride + window - full - before)
        for full, out, window, stride, (before, _) in zip(
            x.shape[1:3], g.shape[1:3], size, strides, padding, strict=True
        )
    ]

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        x, g = lax.optimization_barrier((x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)))
        return lax.conv_general_dilated(
            x, g, (1, 1), edges, rhs_dilation=strides, dimension_numbers=xla.LAYOUT
        )

    bytes_each = 4 * (math.prod(x.shape[1:]) + math.prod(g.shape[1:]))
    return sum_blocks(block, x, g, bytes_each, KERNEL_GRAD_BLOCK).transpose(1, 2, 0, 3)


def forward_one_channel(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding
) -> jax.Array:
    """Sum scaled views: one channel is too narrow for a matrix product, and this fuses."""
    weights = kernel.reshape(-1, kernel.shape[3])

    def block(x: jax.Array) -> jax.Array:
        seen = views(x, kernel.shape[:2], strides, padding)
        return reduce(jnp.add, (view * weight for view, weight in zip(seen, weights, strict=True)))

    if not xla.OLDER:
        return block(x)
    # Older XLA fuses through barriers and would recompute the sum for each window of a pool that
    # follows. It leaves the result of a loop alone.
    result = jax.eval_shape(block, x)
    return map_blocks(block, x, 4 * math.prod(result.shape[1:]), ONE_CHANNEL_BLOCK)


def forward_one_feature(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Apply every weight at every pixel in one product, then sum shifted maps (stride 1)."""
    window, channels = kernel.shape[:2], kernel.shape[2]
    maps = kernel.reshape(-1, channels) @ x.reshape(-1, channels).T
    maps = maps.reshape(*window, *x.shape[:3])
    maps = pad(maps, ((0, 0), (0, 0), (0, 0), *padding))
    rows, columns = (maps.shape[3] - window[0] + 1, maps.shape[4] - window[1] + 1)
    shifted = (
        maps[i, j, :, i : i + rows, j : j + columns]
        for i, j in product(range(window[0]), range(window[1]))
    )
    return reduce(jnp.add, shifted)[..., None]


def kernel_grad_one_channel(
    x: jax.Array, g: jax.Array, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Multiply each weight's map by the output gradient, both as they lie in memory."""

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        maps = jnp.stack([view[..., 0] for view in views(x, size, strides, padding)])
        return maps.reshape(len(maps), -1) @ g.reshape(-1, g.shape[3])

    bytes_each = 4 * size[0] * size[1] * g.shape[1] * g.shape[2]
    grad = sum_blocks(block, x, g, bytes_each, KERNEL_GRAD_BLOCK)
    return grad.reshape(*size, 1, -1)


def kernel_grad_one_feature(x: jax.Array, g: jax.Array, padding: Padding, size: Pair) -> jax.Array:
    """Exchange the roles in `kernel_grad_one_channel` (stride 1), which turns the kernel."""
    (top, _), (left, _) = padding
    above, before = size[0] - 1 - top, size[1] - 1 - left
    edges = (
        (above, x.shape[1] + size[0] - 1 - above - g.shape[1]),
        (before, x.shape[2] + size[1] - 1 - before - g.shape[2]),
    )
    grad = kernel_grad_one_channel(g, x, (1, 1), edges, size)
    return jnp.flip(grad, (0, 1)).swapaxes(2, 3)


def forward_im2col(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """Multiply the patch matrix by the kernel."""
    window = kernel.shape[:2]
    weights = kernel.reshape(-1, kernel.shape[3])
    x = pad(x, ((0, 0), *padding, (0, 0)))

    def block(x: jax.Array) -> jax.Array:
        return _patches(x, window, strides) @ weights

    height, width = (
        (n - k) // s + 1 for n, k, s in zip(x.shape[1:3], window, strides, strict=True)
    )
    row, budget = 4 * width * len(weights), _budget(weights.size)
    if row * height <= budget:
        return map_blocks(block, x, row * height, budget)
    limit = budget // row
    return map_rows(block, x, height=height, window=window[0], stride=strides[0], limit=limit)


def kernel_grad_im2col(
    x: jax.Array, g: jax.Array, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Multiply the patch matrix, transposed, by the output gradient."""
    x = pad(x, ((0, 0), *padding, (0, 0)))

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        patches = _patches(x, size, strides)
        return patches.reshape(-1, patches.shape[3]).T @ g.reshape(-1, g.shape[3])

    length, features = size[0] * size[1] * x.shape[3], g.shape[3]
    budget = _budget(length * features)  # every block adds to the sum
    grad = sum_blocks(block, x, g, 4 * g.shape[1] * g.shape[2] * length, budget)
    return grad.reshape(*size, -1, features)


def input_grad_col2im(
    g: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Compute the patch matrix's gradient in one product, then add up its overlapping views."""
    window = kernel.shape[:2]
    weights = kernel.reshape(-1, kernel.shape[3]).T

    def block(g: jax.Array) -> jax.Array:
        return _add_views(g @ weights, window, strides, padding, size)

    bytes_each = 4 * g.shape[1] * g.shape[2] * weights.shape[1]
    return map_blocks(block, g, bytes_each, _budget(weights.size))


def _add_views(
    patches: jax.Array, window: Sequence[int], strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose a patch matrix.

    Pixels fall into as many classes as a stride has steps, by the weights that reach them. Each
    class is a sum of undilated views; the classes interleave.
    """
    batch, *outputs, length = patches.shape
    patches = patches.reshape(batch, *outputs, *window, length // (window[0] * window[1]))
    steps = [
        -(-(n + sum(edges)) // stride)
        for n, edges, stride in zip(size, padding, strides, strict=True)
    ]

    def view(i: int, j: int) -> jax.Array:
        down, right = i // strides[0], j // strides[1]
        edges = (
            (0, 0),
            (down, steps[0] - outputs[0] - down),
            (right, steps[1] - outputs[1] - right),
            (0, 0),
        )
        return pad(patches[:, :, :, i, j], edges)

    def of_class(row: int, column: int) -> jax.Array:
        weights = product(range(row, window[0], strides[0]), range(column, window[1], strides[1]))
        nothing = jnp.zeros((batch, *steps, patches.shape[-1]), patches.dtype)
        return reduce(jnp.add, (view(i, j) for i, j in weights), nothing)

    lines = [
        jnp.stack([of_class(row, column) for column in range(strides[1])], 3)
        for row in range(strides[0])
    ]
    grad = jnp.stack(lines, 2).reshape(batch, steps[0] * strides[0], steps[1] * strides[1], -1)
    (top, _), (left, _) = padding
    return grad[:, top : top + size[0], left : left + size[1]]


def _budget(weights: int) -> int:
    """Return the bytes of a block's patch matrix beside a kernel of so many weights."""
    return max(BLOCK, 4 * weights)
