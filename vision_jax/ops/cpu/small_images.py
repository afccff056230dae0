"""Convolutions of small images, with as few multiplications as their size allows.

Along an axis, a tile of t results that see s pixels through r weights takes t + min(s, r) - 1
products of sums of pixels with sums of weights, instead of t * r: 4 pixels and 5 weights 7 instead
of 20, and that along both axes. A small image has so few pixels that transforming all of them, and
back, is a matrix product with a constant. For results with a standard deviation of 1 the largest
error among half a million is 1e-4, with the points of Barabasz et al. ("Error Analysis and
Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.cpu import space_to_depth, toom_cook
from vision_jax.ops.cpu.blocks import map_blocks, sum_blocks
from vision_jax.ops.cpu.xla import Padding, Pair

TILE = 4
WINDOW = 5  # the widest kernel for whose tiles there are points enough

# Bytes of a block's coordinates, of both images and results. They leave the second-level cache,
# but more blocks are slower on older XLA, which rearranges them on one core within a loop.
BLOCK = 32 << 20

_POINTS = (0, 1, -1, 0.5, -2, -0.5, 2)


class Form(NamedTuple):
    """A convolution as results @ ((pixels @ x) * (weights @ kernel)), image and kernel flat."""

    pixels: np.ndarray
    weights: np.ndarray
    results: np.ndarray


def forward(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """Convolve NHWC images with an HWIO kernel."""
    form, size = form_of(x.shape[1:3], kernel.shape[:2], strides, padding)
    kernel = space_to_depth.pack_kernel(kernel, strides, padding)
    weights = _weights(form, kernel)

    def block(x: jax.Array) -> jax.Array:
        pixels = _to(form.pixels, space_to_depth.pack(x, strides))
        products = lax.dot_general(pixels, weights, (((2,), (1,)), ((0,), (0,))))
        return _back(form.results, products, size)

    return map_blocks(block, x, _bytes(form, kernel.shape[2:]), BLOCK)


def input_grad(
    g: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose `forward` in its images, whose height and width are `size`."""
    form, _ = form_of(size, kernel.shape[:2], strides, padding)
    kernel = space_to_depth.pack_kernel(kernel, strides, padding)
    weights = _weights(form, kernel)

    def block(g: jax.Array) -> jax.Array:
        products = lax.dot_general(_to(form.results.T, g), weights, (((2,), (2,)), ((0,), (0,))))
        x = _back(form.pixels.T, products, space_to_depth.packed_size(size, strides))
        return space_to_depth.unpack(x, strides, size)

    return map_blocks(block, g, _bytes(form, kernel.shape[2:]), BLOCK)


def kernel_grad(
    x: jax.Array, g: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose `forward` in its kernel, whose height and width are `size`."""
    form, _ = form_of(x.shape[1:3], size, strides, padding)

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        pixels, results = _to(form.pixels, space_to_depth.pack(x, strides)), _to(form.results.T, g)
        return lax.dot_general(pixels, results, (((1,), (1,)), ((0,), (0,))))

    channels = strides[0] * strides[1] * x.shape[3]
    total = sum_blocks(block, x, g, _bytes(form, (channels, g.shape[3])), BLOCK)
    grad = jnp.asarray(form.weights.T, x.dtype) @ total.reshape(len(total), -1)
    grad = grad.reshape(*space_to_depth.packed_window(size, strides, padding), *total.shape[1:])
    return space_to_depth.unpack_kernel(grad, strides, padding, size)


@lru_cache
def form_of(
    size: tuple[int, ...], window: tuple[int, ...], strides: Pair, padding: Padding
) -> tuple[Form, Pair]:
    """Return the form of a convolution of packed images, and the height and width of results."""
    down, across = (
        _axis(*sizes)
        for sizes in zip(
            space_to_depth.packed_size(size, strides),
            space_to_depth.packed_window(window, strides, padding),
            space_to_depth.packed_padding(size, window, strides, padding),
            strict=True,
        )
    )
    both = (np.kron(a, b).astype(np.float32) for a, b in zip(down, across, strict=True))
    return Form(*both), (len(down.results), len(across.results))


def _axis(size: int, window: int, padding: Pair) -> Form:
    """Return the form along one axis: adjacent tiles of results, each with its own products."""
    outputs = size + sum(padding) - window + 1
    parts = []
    for start in range(0, outputs, TILE):
        results = min(TILE, outputs - start)
        first = start - padding[0]  # the pixel that the tile's first result sees first
        low = max(0, first)
        high = max(low, min(size, first + results + window - 1))
        parts.append((start, low, _tile(results, window, high - low, low - first)))
    products = [len(form.pixels) for _, _, form in parts]
    whole = Form(
        np.zeros((sum(products), size)),
        np.zeros((sum(products), window)),
        np.zeros((outputs, sum(products))),
    )
    row = 0
    for count, (start, low, form) in zip(products, parts, strict=True):
        rows = slice(row, row + count)
        whole.pixels[rows, low : low + form.pixels.shape[1]] = form.pixels
        whole.weights[rows] = form.weights
        whole.results[start : start + len(form.results), rows] = form.results
        row += count
    return whole


def _tile(results: int, window: int, seen: int, skipped: int) -> Form:
    """Return the form of a tile that sees `seen` pixels after `skipped` of padding."""
    if seen == 0:
        return Form(np.zeros((0, 0)), np.zeros((0, window)), np.zeros((results, 0)))
    if window <= seen:
        of_seen, of_few, to_results = toom_cook.matrices(_POINTS, results, window)
        return Form(of_seen[:, skipped : skipped + seen], of_few, to_results)
    # With fewer pixels than weights exchange the two: the kernel runs backwards over the pixels.
    of_seen, of_few, to_results = toom_cook.matrices(_POINTS, results, seen)
    places = np.arange(results + seen - 1) - (results - 1) + skipped
    taken = (places[:, None] == np.arange(window)).astype(float)
    return Form(of_few, of_seen @ taken, to_results[::-1])


def _weights(form: Form, kernel: jax.Array) -> jax.Array:
    """Transform a kernel: (products, channels, features)."""
    flat = kernel.reshape(-1, kernel.shape[2] * kernel.shape[3])
    weights = jnp.asarray(form.weights, kernel.dtype) @ flat
    return weights.reshape(-1, *kernel.shape[2:])


def _to(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """Transform images: (products, images, channels)."""
    x = x.reshape(x.shape[0], -1, x.shape[3])
    return lax.dot_general(jnp.asarray(matrix, x.dtype), x, (((1,), (1,)), ((), ())))


def _back(matrix: np.ndarray, products: jax.Array, size: Pair) -> jax.Array:
    """Transform (products, images, channels) back to images."""
    x = lax.dot_general(jnp.asarray(matrix, products.dtype), products, (((1,), (0,)), ((), ())))
    return x.transpose(1, 0, 2).reshape(x.shape[1], *size, -1)


def _bytes(form: Form, channels: Sequence[int]) -> int:
    """Return the bytes of one image's coordinates and its result's."""
    return 4 * len(form.pixels) * sum(channels)
