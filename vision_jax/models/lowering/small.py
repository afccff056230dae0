"""Convolutions of images hardly larger than their kernel, without products with padding.

On a 4x4 image more than half of a padded 5x5 kernel's products have a padding zero for a factor.
Here each pixel of the result is one matrix product, of the batch with the part of the kernel that
meets the image.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vision_jax.models.lowering.native import Padding, Pair

Span = tuple[int, int, int]


def forward(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """`native.forward` as one product for each output pixel."""
    batch, *size, _ = x.shape
    rows, columns = (
        _input_spans(*args) for args in zip(size, kernel.shape[:2], strides, padding, strict=True)
    )
    outputs = [
        x[:, top:bottom, left:right].reshape(batch, -1)
        @ kernel[i : i + bottom - top, j : j + right - left].reshape(-1, kernel.shape[3])
        for top, bottom, i in rows
        for left, right, j in columns
    ]
    return jnp.stack(outputs, 1).reshape(batch, len(rows), len(columns), -1)


def input_grad(
    g: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """`native.input_grad` as one product for each input pixel."""
    batch, *outputs, _ = g.shape
    rows, columns = (
        _output_spans(*args)
        for args in zip(size, outputs, kernel.shape[:2], strides, padding, strict=True)
    )
    # An output one step later meets the same pixel `stride` weights earlier.
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    grads = []
    for top, bottom, i in rows:
        for left, right, j in columns:
            seen = g[:, top:bottom, left:right].reshape(batch, -1)
            weights = turned[
                kernel.shape[0] - 1 - i :: strides[0], kernel.shape[1] - 1 - j :: strides[1]
            ][: bottom - top, : right - left]
            grads.append(seen @ weights.reshape(-1, kernel.shape[2]))
    return jnp.stack(grads, 1).reshape(batch, *size, -1)


def kernel_grad(
    x: jax.Array, g: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """`native.kernel_grad` as one product for each row of the kernel.

    The product pairs all columns of the image with all columns of the output; each of the
    kernel's columns is the sum of one of its diagonals.
    """
    (_, height, width, channels), (_, out_height, out_width, features) = x.shape, g.shape
    x, g = (a.reshape(*a.shape[:2], -1) for a in (x, g))
    rows = []
    for i in range(size[0]):
        first, last = _meeting(i, height, out_height, strides[0], padding[0])
        start = first * strides[0] + i - padding[0][0]
        seen = x[:, start :: strides[0]][:, : last - first].reshape(-1, x.shape[2])
        pairs = seen.T @ g[:, first:last].reshape(-1, g.shape[2])
        pairs = pairs.reshape(width, channels, out_width, features)
        columns = []
        for j in range(size[1]):
            first, last = _meeting(j, width, out_width, strides[1], padding[1])
            columns.append(
                sum(
                    (pairs[o * strides[1] + j - padding[1][0], :, o] for o in range(first, last)),
                    jnp.zeros((channels, features), x.dtype),
                )
            )
        rows.append(jnp.stack(columns))
    return jnp.stack(rows)


def used(size: int, window: int, stride: int, padding: Pair) -> float:
    """Share of a kernel's products along one side that do not meet padding."""
    spans = _input_spans(size, window, stride, padding)
    return sum(last - first for first, last, _ in spans) / (window * len(spans))


def _input_spans(size: int, window: int, stride: int, padding: Pair) -> list[Span]:
    """For each output the inputs that it sees, from and to, and the first one's weight."""
    starts = range(-padding[0], size + padding[1] - window + 1, stride)
    ends = (max(0, min(size, a + window)) for a in starts)
    return [(min(max(0, a), b), b, max(0, -a)) for a, b in zip(starts, ends, strict=True)]


def _output_spans(
    size: int, outputs: int, window: int, stride: int, padding: Pair
) -> Sequence[Span]:
    """For each input the outputs that see it, from and to, and its weight in the first."""
    spans = []
    for place in range(padding[0], padding[0] + size):
        first = max(0, -((window - 1 - place) // stride))
        last = min(outputs - 1, place // stride)
        spans.append((first, max(first, last + 1), place - first * stride))
    return spans


def _meeting(weight: int, size: int, outputs: int, stride: int, padding: Pair) -> Pair:
    """The outputs, from and to, in which a weight meets the image."""
    first = max(0, -((weight - padding[0]) // stride))
    last = (size - 1 - weight + padding[0]) // stride
    return first, max(first, min(outputs, last + 1))
