"""A strided convolution as one of stride 1, of an image with fewer and wider pixels.

At stride s an output sees the image as s x s phases, each through its own weights. Stacked as
channels (space-to-depth) they make an image and a kernel of 1/s the height and width: at stride 2 a
5x5 kernel becomes a 3x3 kernel of four times the channels.
"""

from collections.abc import Sequence

import jax

from vision_jax.ops.cpu.xla import Padding, Pair, pad


def packed_size(size: Sequence[int], strides: Pair) -> Pair:
    """Return height and width of a packed image."""
    height, width = (-(-n // s) for n, s in zip(size, strides, strict=True))
    return height, width


def packed_window(window: Sequence[int], strides: Pair, padding: Padding) -> Pair:
    """Return height and width of a packed kernel."""
    ahead = _ahead(strides, padding)
    return packed_size([a + k for a, k in zip(ahead, window, strict=True)], strides)


def packed_padding(
    size: Sequence[int], window: Sequence[int], strides: Pair, padding: Padding
) -> Padding:
    """Return the padding of the packed image that keeps the outputs; it may cut at the end."""
    vertical, horizontal = (
        (-(-before // s), (n + before + after - k) // s + inner - outer - -(-before // s))
        for n, k, s, (before, after), outer, inner in zip(
            size,
            window,
            strides,
            padding,
            packed_size(size, strides),
            packed_window(window, strides, padding),
            strict=True,
        )
    )
    return vertical, horizontal


def pack(x: jax.Array, strides: Pair) -> jax.Array:
    """Pack images to (batch, height / s, width / s, s * s * channels), zeros at the ends."""
    ends = [(0, -n % s) for n, s in zip(x.shape[1:3], strides, strict=True)]
    x = pad(x, ((0, 0), *ends, (0, 0)))
    height, width = packed_size(x.shape[1:3], strides)
    x = x.reshape(-1, height, strides[0], width, strides[1], x.shape[3])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), height, width, -1)


def unpack(x: jax.Array, strides: Pair, size: Pair) -> jax.Array:
    """Transpose `pack`, back to images of this height and width."""
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, *strides, -1).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, height * strides[0], width * strides[1], -1)
    return x[:, : size[0], : size[1]]


def pack_kernel(kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """Pack a kernel to convolve packed images with."""
    ahead = [(before, 0) for before in _ahead(strides, padding)]
    # As the channels are its third axis, a kernel is packed like an image for each feature.
    kernel = pad(kernel.transpose(3, 0, 1, 2), ((0, 0), *ahead, (0, 0)))
    return pack(kernel, strides).transpose(1, 2, 3, 0)


def unpack_kernel(kernel: jax.Array, strides: Pair, padding: Padding, size: Pair) -> jax.Array:
    """Transpose `pack_kernel`, back to a kernel of this height and width."""
    rows, columns = _ahead(strides, padding)
    whole = (rows + size[0], columns + size[1])
    kernel = unpack(kernel.transpose(3, 0, 1, 2), strides, whole)
    return kernel[:, rows:, columns:].transpose(1, 2, 3, 0)


def _ahead(strides: Pair, padding: Padding) -> Pair:
    """Return the zeros ahead of the kernel that make its padding a multiple of the strides."""
    rows, columns = (-before % s for s, (before, _) in zip(strides, padding, strict=True))
    return rows, columns
