"""Pooling of NHWC images."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from vision_jax.ops.cpu import pooling
from vision_jax.ops.cpu.xla import Padding, Pair
from vision_jax.ops.windows import (
    PaddingLike,
    PairLike,
    check_floats,
    check_images,
    resolve_padding,
    resolve_pair,
)


def max_pool(
    x: Num[Array, "batch height width channels"],
    window: PairLike = 2,
    strides: PairLike | None = None,
    padding: PaddingLike = "VALID",
) -> Num[Array, "batch out_height out_width channels"]:
    """Take the maximum of each window; padding never wins.

    Args:
        x: Images, of any real type.
        window: Height and width of the window, or one integer for both.
        strides: Steps between windows, likewise; the window's own size if None.
        padding: As for `conv`, with the type's lowest value in place of zeros (minus infinity
            for floating-point numbers).

    Returns:
        The pooled images. Where pixels tie, the gradient goes to the first in scan order.

    Raises:
        ValueError: If the images have another number of axes, an argument is out of range, or
            the window exceeds the padded image.
    """
    check_images("max_pool", x)
    window, strides, pads = _resolve("max_pool", x, window, strides, padding)
    return pooling.max_pool(x, window=window, strides=strides, padding=pads)


def avg_pool(
    x: Float[Array, "batch height width channels"],
    window: PairLike = 2,
    strides: PairLike | None = None,
    padding: PaddingLike = "VALID",
) -> Float[Array, "batch out_height out_width channels"]:
    """Take the mean of the pixels in each window; padding does not count.

    Args:
        x: Images.
        window: Height and width of the window, or one integer for both.
        strides: Steps between windows, likewise; the window's own size if None.
        padding: As for `conv`.

    Returns:
        The pooled images.

    Raises:
        ValueError: If the images have another number of axes or are integers, an argument is out
            of range, the window exceeds the padded image, or a window holds padding alone.
    """
    check_images("avg_pool", x)
    check_floats("avg_pool", x)
    window, strides, pads = _resolve("avg_pool", x, window, strides, padding)
    for size, length, stride, (before, after) in zip(
        x.shape[1:3], window, strides, pads, strict=True
    ):
        last = (size + before + after - length) // stride * stride
        if before >= length or last >= before + size:
            raise ValueError(
                f"avg_pool: padding is {pads}, needs to leave a pixel in each window of {window}"
            )

    def window_sum(images: Array) -> Array:
        zero = np.zeros((), images.dtype)  # known to be zero, without which it has no gradient
        edges = ((0, 0), *pads, (0, 0))
        return lax.reduce_window(images, zero, lax.add, (1, *window, 1), (1, *strides, 1), edges)

    # In bfloat16, 256 and 1 make 256.
    wide = x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
    means = window_sum(x.astype(wide)) / window_sum(jnp.ones((1, *x.shape[1:3], 1), wide))
    return means.astype(x.dtype)


def _resolve(
    name: str, x: Array, window: PairLike, strides: PairLike | None, padding: PaddingLike
) -> tuple[Pair, Pair, Padding]:
    """Window, strides and padding in pixels."""
    window = resolve_pair(name, "window", window)
    strides = window if strides is None else resolve_pair(name, "strides", strides)
    return window, strides, resolve_padding(name, x.shape[1:3], window, strides, padding)
