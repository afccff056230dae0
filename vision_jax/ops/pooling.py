"""Pooling of NHWC images."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vision_jax.ops.cpu import pooling
from vision_jax.ops.cpu.xla import Pair
from vision_jax.ops.padding import PaddingLike, pads_in_pixels


def max_pool(
    x: Float[Array, "batch height width channels"],
    window: Pair = (2, 2),
    strides: Pair | None = None,
    padding: PaddingLike = "VALID",
) -> Float[Array, "batch out_height out_width channels"]:
    """Take the maximum of each window; padding never wins.

    Args:
        x: Images.
        window: Height and width of the window.
        strides: Steps between windows; the window's own size if None.
        padding: As for `conv`, with minus infinity in place of zeros.

    Returns:
        The pooled images. Where pixels tie, the gradient goes to the first in scan order.

    Raises:
        ValueError: If the padding is unknown, or the window exceeds the padded image.
    """
    strides = strides or window
    pads = pads_in_pixels("max_pool", x.shape[1:3], window, strides, padding)
    return pooling.max_pool(x, window=window, strides=strides, padding=pads)


def avg_pool(
    x: Float[Array, "batch height width channels"],
    window: Pair = (2, 2),
    strides: Pair | None = None,
    padding: PaddingLike = "VALID",
) -> Float[Array, "batch out_height out_width channels"]:
    """Take the mean of the pixels in each window; padding does not count.

    Args:
        x: Images.
        window: Height and width of the window.
        strides: Steps between windows; the window's own size if None.
        padding: As for `conv`.

    Returns:
        The pooled images.

    Raises:
        ValueError: If the padding is unknown, or the window exceeds the padded image.
    """
    strides = strides or window
    pads = pads_in_pixels("avg_pool", x.shape[1:3], window, strides, padding)

    def window_sum(images: Array) -> Array:
        zero = jnp.zeros((), images.dtype)
        edges = ((0, 0), *pads, (0, 0))
        return lax.reduce_window(images, zero, lax.add, (1, *window, 1), (1, *strides, 1), edges)

    return window_sum(x) / window_sum(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
