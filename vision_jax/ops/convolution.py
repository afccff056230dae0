"""Convolutions and transposed convolutions of NHWC images."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.ops.cpu import convolution
from vision_jax.ops.cpu.xla import Pair
from vision_jax.ops.padding import PaddingLike, check_name, pads_in_pixels


def conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    *,
    strides: Pair = (1, 1),
    padding: PaddingLike = "SAME",
) -> Float[Array, "batch out_height out_width features"]:
    """Convolve images with a kernel (a cross-correlation, as usual in neural networks).

    Args:
        x: Images.
        kernel: Weights, of the dtype of `x`.
        strides: Steps between outputs, vertical and horizontal.
        padding: "SAME" (output size is input size over stride, rounded up), "VALID" (no
            padding), or two pairs of zeros to add: ((top, bottom), (left, right)).

    Returns:
        The feature maps.

    Raises:
        ValueError: If the padding is unknown, or the kernel exceeds the padded image.
    """
    window = kernel.shape[:2]
    pads = pads_in_pixels("conv", x.shape[1:3], window, strides, padding)
    return convolution.forward(x, kernel, strides=strides, padding=pads)


def conv_transpose(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    *,
    strides: Pair,
    padding: PaddingLike = "SAME",
) -> Float[Array, "batch out_height out_width features"]:
    """Convolve images whose pixels are spread `strides` apart, which enlarges them.

    The alignment is that of `jax.lax.conv_transpose` with `transpose_kernel=False`: with the
    kernel flipped in both image axes this is the gradient of a strided `conv`, as in Keras.

    Args:
        x: Images.
        kernel: Weights, of the dtype of `x`.
        strides: Enlargement, vertical and horizontal.
        padding: "SAME" (output size is input size times stride), "VALID" (every output that
            touches the input), or two pairs of zeros to add to the spread image.

    Returns:
        The feature maps.

    Raises:
        ValueError: If the padding is unknown, or the kernel exceeds the padded spread image.
    """
    window = kernel.shape[:2]
    spread = [(n - 1) * s + 1 for n, s in zip(x.shape[1:3], strides, strict=True)]
    if isinstance(padding, str):
        check_name(padding)
        padding = [_transposed_pads(k, s, padding) for k, s in zip(window, strides, strict=True)]
    vertical, horizontal = pads_in_pixels("conv_transpose", spread, window, (1, 1), padding)
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


def _transposed_pads(window: int, stride: int, padding: str) -> Pair:
    """Zeros before and after the spread image that give "SAME" or "VALID" its output size."""
    if padding == "VALID":
        return window - 1, max(window, stride) - 1
    total = window + stride - 2
    before = window - 1 if stride > window - 1 else -(-total // 2)
    return before, total - before
