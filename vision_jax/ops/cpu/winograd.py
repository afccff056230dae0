"""3x3 convolutions of stride 1 with a quarter of the multiplications (Winograd).

The result is computed in tiles of 4x4 pixels, each from the 6x6 pixels that it sees. Pixels and
kernel are transformed to 36 coordinates, in which a convolution is one matrix product over the
channels for each coordinate (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2015, F(4x4, 3x3)). Rounding errors are tens of times those of the direct sum: for results with a
standard deviation of 1 the largest error among millions is 5e-5.
"""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.cpu import toom_cook, xla
from vision_jax.ops.cpu.blocks import map_blocks, sum_blocks
from vision_jax.ops.cpu.xla import Padding, pad

TILE = 4
WINDOW = 3
SEEN = TILE + WINDOW - 1

# Bytes of a block's coordinates, of both images and results: KERNELS times those of the transformed
# kernel, which every block reads, within two limits. They leave the second-level cache, but smaller
# products cost more than that.
LEAST_BLOCK, BLOCK = 2 << 20, 8 << 20
KERNELS = 4
KERNEL_GRAD_BLOCK = 16 << 20

# Transforms of pixels, of a kernel, and back to a tile, along one axis, at Lavin and Gray's points.
_OF_SEEN, _OF_KERNEL, _TO_TILE = toom_cook.matrices((0, 1, -1, 2, -2), TILE, WINDOW)


def forward(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolve NHWC images with a (3, 3, channels, features) kernel at stride 1."""
    features = kernel.shape[3]
    height, width = outputs(x, padding)
    weights = _mix_both(_OF_KERNEL, kernel).reshape(SEEN * SEEN, -1, features)

    def block(x: jax.Array) -> jax.Array:
        products = lax.dot_general(_coordinates(x, padding), weights, (((2,), (1,)), ((0,), (0,))))
        products = products.reshape(SEEN, SEEN, x.shape[0], *tiles(height, width), features)
        return _joined(_mix_both(_TO_TILE, products))[:, :height, :width]

    budget = min(max(LEAST_BLOCK, KERNELS * 4 * weights.size), BLOCK)
    return map_blocks(block, x, _bytes(height, width, *kernel.shape[2:]), budget)


def kernel_grad(x: jax.Array, g: jax.Array, padding: Padding) -> jax.Array:
    """Transpose `forward` in its kernel."""
    height, width = g.shape[1:3]
    rows, columns = tiles(height, width)

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        g = pad(g, ((0, 0), (0, rows * TILE - height), (0, columns * TILE - width), (0, 0)))
        spread = _mix(_TO_TILE.T, [_every(g, i, rows, 1) for i in range(TILE)], 0)
        spread = _mix(_TO_TILE.T, [_every(spread, j, columns, 3) for j in range(TILE)], 1)
        spread = spread.reshape(SEEN * SEEN, -1, g.shape[3])
        seen = _coordinates(x, padding)
        # XLA spreads a batch of products over the cores if it sums over the first factor's last
        # axis; other forms, and all of older XLA's, use one core.
        if xla.OLDER:
            return lax.dot_general(seen, spread, (((1,), (1,)), ((0,), (0,))))
        seen = lax.optimization_barrier(seen.swapaxes(1, 2))
        return lax.dot_general(seen, spread, (((2,), (1,)), ((0,), (0,))))

    bytes_each = _bytes(height, width, x.shape[3], g.shape[3])
    of_sum = 4 * SEEN * SEEN * x.shape[3] * g.shape[3]  # every block adds to it
    total = sum_blocks(block, x, g, bytes_each, max(KERNEL_GRAD_BLOCK, of_sum))
    return _mix_both(_OF_KERNEL.T, total.reshape(SEEN, SEEN, *total.shape[1:]))


def _coordinates(x: jax.Array, padding: Padding) -> jax.Array:
    """Transform what each tile sees: (36, tiles of all images, channels)."""
    rows, columns = tiles(*outputs(x, padding))
    edges = [
        (before, count * TILE + WINDOW - 1 - size - before)
        for count, size, (before, _) in zip((rows, columns), x.shape[1:3], padding, strict=True)
    ]
    x = pad(x, [(0, 0), *edges, (0, 0)])
    lines = _mix(_OF_SEEN, [_every(x, i, rows, 1) for i in range(SEEN)], 0)
    seen = _mix(_OF_SEEN, [_every(lines, j, columns, 3) for j in range(SEEN)], 1)
    return seen.reshape(SEEN * SEEN, -1, x.shape[3])


def _every(x: jax.Array, start: int, count: int, axis: int) -> jax.Array:
    return lax.slice_in_dim(x, start, start + (count - 1) * TILE + 1, TILE, axis)


def _mix_both(matrix: np.ndarray, grid: jax.Array) -> jax.Array:
    """Multiply by a small matrix along the first axis, and along the second."""
    lines = _mix(matrix, [grid[i] for i in range(matrix.shape[1])], 0)
    return _mix(matrix, [lines[:, j] for j in range(matrix.shape[1])], 1)


def _mix(matrix: np.ndarray, parts: Sequence[jax.Array], axis: int) -> jax.Array:
    """Multiply by a small matrix, zeros left out; the barrier keeps XLA from recomputing it."""
    sums = [
        reduce(
            jnp.add,
            (_times(weight, part) for weight, part in zip(row, parts, strict=True) if weight),
        )
        for row in matrix.tolist()
    ]
    return lax.optimization_barrier(jnp.stack(sums, axis))


def _times(weight: float, part: jax.Array) -> jax.Array:
    return part if weight == 1 else -part if weight == -1 else weight * part


def _joined(pixels: jax.Array) -> jax.Array:
    """Join (4, 4, images, rows, columns, features) to images."""
    batch, rows, columns, features = pixels.shape[2:]
    pixels = pixels.transpose(2, 3, 0, 4, 1, 5)
    return pixels.reshape(batch, rows * TILE, columns * TILE, features)


def outputs(x: jax.Array, padding: Padding) -> tuple[int, int]:
    """Return height and width of the result."""
    height, width = (
        size + sum(edges) - WINDOW + 1 for size, edges in zip(x.shape[1:3], padding, strict=True)
    )
    return height, width


def tiles(height: int, width: int) -> tuple[int, int]:
    """Return how many tiles cover a result, down and across."""
    return -(-height // TILE), -(-width // TILE)


def _bytes(height: int, width: int, channels: int, features: int) -> int:
    """Return the bytes of one image's coordinates and its result's."""
    rows, columns = tiles(height, width)
    return 4 * SEEN * SEEN * rows * columns * (channels + features)
