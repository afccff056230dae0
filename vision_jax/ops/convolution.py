"""Convolutions and transposed convolutions of NHWC images."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.ops.cpu import convolution
from vision_jax.ops.cpu.xla import Pair
from vision_jax.ops.windows import (
    PaddingLike,
    PairLike,
    check_floats,
    check_images,
    resolve_name,
    resolve_padding,
    resolve_pair,
)


def conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    *,
    strides: PairLike = 1,
    padding: PaddingLike = "SAME",
) -> Float[Array, "batch out_height out_width features"]:
    """Convolve images with a kernel (a cross-correlation, as usual in neural networks).

    Args:
        x: Images.
        kernel: Weights, of the dtype of `x`.
        strides: Steps between outputs, one for both directions or (vertical, horizontal).
        padding: "SAME" (output size is input size over stride, rounded up), "VALID" (no
            padding), or zeros to add: an integer for every side, (vertical, horizontal) or
            ((top, bottom), (left, right)). Negative numbers cut the image.

    Returns:
        The feature maps.

    Raises:
        ValueError: If images or kernel have another number of axes or channels, an argument is
            out of range, or the kernel exceeds the padded image.
    """
    _check("conv", x, kernel)
    strides = resolve_pair("conv", "strides", strides)
    pads = resolve_padding("conv", x.shape[1:3], kernel.shape[:2], strides, padding)
    return convolution.forward(x, kernel, strides=strides, padding=pads)


def conv_transpose(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    *,
    strides: PairLike,
    padding: PaddingLike = "SAME",
) -> Float[Array, "batch out_height out_width features"]:
    """Convolve images whose pixels are spread `strides` apart, which enlarges them.

    The alignment is that of `jax.lax.conv_transpose` with `transpose_kernel=False`: with the
    kernel flipped in both image axes this is the gradient of a strided `conv`, as in Keras.

    Args:
        x: Images.
        kernel: Weights, of the dtype of `x`.
        strides: Enlargement, one for both directions or (vertical, horizontal).
        padding: "SAME" (output size is input size times stride), "VALID" (every output that
            touches the input), or zeros to add to the spread image, as for `conv`.

    Returns:
        The feature maps.

    Raises:
        ValueError: If images or kernel have another number of axes or channels, an argument is
            out of range, or the kernel exceeds the padded spread image.
    """
    name = "conv_transpose"
    _check(name, x, kernel)
    strides = resolve_pair(name, "strides", strides)
    window = kernel.shape[:2]
    spread = [(n - 1) * s + 1 for n, s in zip(x.shape[1:3], strides, strict=True)]
    if isinstance(padding, str):
        padding = resolve_name(name, padding)
        padding = [_transposed_pads(k, s, padding) for k, s in zip(window, strides, strict=True)]
    vertical, horizontal = resolve_padding(name, spread, window, (1, 1), padding)
    rows, columns = window
    # A convolution of the spread image is the input gradient of a strided convolution whose
    # kernel is this one turned by half a turn, with features and channels exchanged.
    return convolution.input_grad(
        x,
        jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
        strides=strides,
        padding=(
            (rows - 1 - vertical[0], rows - 1 - vertical[1]),
            (columns - 1 - horizontal[0], columns - 1 - horizontal[1]),
        ),
        size=(spread[0] + sum(vertical) - rows + 1, spread[1] + sum(horizontal) - columns + 1),
    )


def _check(name: str, x: Array, kernel: Array) -> None:
    check_images(name, x)
    check_floats(name, x)
    if kernel.ndim != 4 or kernel.shape[2] != x.shape[3]:
        raise ValueError(
            f"{name}: kernel is {kernel.shape}, needs (rows, columns, {x.shape[3]}, features) "
            f"for images of {x.shape}"
        )


def _transposed_pads(window: int, stride: int, padding: str) -> Pair:
    """Zeros before and after the spread image that give "SAME" or "VALID" its output size."""
    if padding == "VALID":
        return window - 1, max(window, stride) - 1
    total = window + stride - 2
    before = window - 1 if stride > window - 1 else -(-total // 2)
    return before, total - before
