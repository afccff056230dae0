"""A dilated convolution as a dense one, of as many smaller images.

At dilation d an output sees only every d-th pixel: the d x d sets of such pixels are images of 1/d
the height and width, which the kernel convolves apart.
"""

from collections.abc import Sequence

import jax

from vision_jax.ops.cpu.xla import Padding, Pair, pad


def pack(x: jax.Array, dilation: Pair) -> jax.Array:
    """Pack images to (d * d * batch, height / d, width / d, channels), zeros at the ends."""
    ends = [(0, -n % d) for n, d in zip(x.shape[1:3], dilation, strict=True)]
    x = pad(x, ((0, 0), *ends, (0, 0)))
    batch, height, width, channels = x.shape
    rows, columns = dilation
    x = x.reshape(batch, height // rows, rows, width // columns, columns, channels)
    return x.transpose(2, 4, 0, 1, 3, 5).reshape(-1, height // rows, width // columns, channels)


def unpack(x: jax.Array, dilation: Pair, size: Sequence[int]) -> jax.Array:
    """Undo `pack`, back to images of this height and width."""
    _, height, width, channels = x.shape
    rows, columns = dilation
    x = x.reshape(rows, columns, -1, height, width, channels).transpose(2, 3, 0, 4, 1, 5)
    x = x.reshape(-1, height * rows, width * columns, channels)
    return x[:, : size[0], : size[1]]


def padded(size: Sequence[int], padding: Padding) -> Pair:
    """Return height and width of padded images."""
    height, width = (n + sum(edges) for n, edges in zip(size, padding, strict=True))
    return height, width


def fill(g: jax.Array, size: Pair, window: Sequence[int], dilation: Pair) -> jax.Array:
    """Pack output gradients, zeros for outputs that only the ends of packed images have.

    Args:
        g: Gradients of the outputs.
        size: Height and width of the padded images.
        window: Height and width of the kernel.
        dilation: Steps between the pixels that the kernel sees.

    Returns:
        Gradients of the packed images' outputs.
    """
    ends = [
        (0, (-(-n // d) - k + 1) * d - out)
        for n, d, k, out in zip(size, dilation, window, g.shape[1:3], strict=True)
    ]
    return pack(pad(g, ((0, 0), *ends, (0, 0))), dilation)
