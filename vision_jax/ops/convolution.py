"""Convolutions and transposed convolutions of NHWC images."""

import operator
from typing import SupportsIndex

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
    kernel: Float[Array, "rows columns group_channels features"],
    *,
    strides: PairLike = 1,
    padding: PaddingLike = "SAME",
    dilation: PairLike = 1,
    groups: SupportsIndex = 1,
) -> Float[Array, "batch out_height out_width features"]:
    """Convolve images with a kernel (a cross-correlation, as usual in neural networks).

    Args:
        x: Images.
        kernel: Weights, of the dtype of `x`.
        strides: Steps between outputs, one for both directions or (vertical, horizontal).
        padding: "SAME" (output size is input size over stride, rounded up), "VALID" (no
            padding), or zeros to add: an integer for every side, (vertical, horizontal) or
            ((top, bottom), (left, right)). Negative numbers cut the image.
        dilation: Steps between the pixels that the kernel sees, as for `strides`.
        groups: Number of parts that channels and features divide into, each convolved apart; the
            kernel is (rows, columns, channels / groups, features). As many as there are channels
            make a depthwise convolution.

    Returns:
        The feature maps.

    Raises:
        ValueError: If images or kernel have another number of axes or channels, an argument is
            out of range, or the kernel exceeds the padded image.
    """
    parts = operator.index(groups)
    _check("conv", x, kernel, parts)
    strides = resolve_pair("conv", "strides", strides)
    dilation = resolve_pair("conv", "dilation", dilation)
    window = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    pads = resolve_padding("conv", x.shape[1:3], window, strides, padding)
    return convolution.forward(
        x, kernel, strides=strides, padding=pads, dilation=dilation, groups=parts
    )


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


def _check(name: str, x: Array, kernel: Array, groups: int = 1) -> None:
    check_images(name, x)
    check_floats(name, x)
    channels, features = x.shape[3], kernel.shape[-1]
    if groups < 1 or channels % groups or features % groups:
        raise ValueError(
            f"{name}: groups is {groups}, needs to divide {channels} channels and {features} "
            "features"
        )
    if kernel.ndim != 4 or kernel.shape[2] != channels // groups or 0 in kernel.shape:
        raise ValueError(
            f"{name}: kernel is {kernel.shape}, needs (rows, columns, {channels // groups}, "
            f"features) for images of {x.shape}" + (f" in {groups} groups" if groups > 1 else "")
        )


def _transposed_pads(window: int, stride: int, padding: str) -> Pair:
    """Zeros before and after the spread image that give "SAME" or "VALID" its output size."""
    if padding == "VALID":
        return window - 1, max(window, stride) - 1
    total = window + stride - 2
    before = window - 1 if stride > window - 1 else -(-total // 2)
    return before, total - before
