"""Convolutions, pooling and upsampling of NHWC images.

Each function is XLA's own operation on a GPU or TPU. On a CPU, where that operation or its
gradient can be many times slower than a matrix product of the same size, the convolutions and
max pooling lower to equal forms that are fast there. All of them can be differentiated in either
mode, to any order, and mapped with `jax.vmap`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vision_jax.models.lowering import convolution, pooling, upsampling
from vision_jax.models.lowering.native import Padding, Pair

PaddingLike = str | Sequence[tuple[int, int]]

STAGE = "stage"
"""What `stage` calls an output."""


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
    pads = _pads("conv", x.shape[1:3], window, strides, padding)
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
        _check_name(padding)
        padding = [_transposed_pads(k, s, padding) for k, s in zip(window, strides, strict=True)]
    vertical, horizontal = _pads("conv_transpose", spread, window, (1, 1), padding)
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
    pads = _pads("max_pool", x.shape[1:3], window, strides, padding)
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
    pads = _pads("avg_pool", x.shape[1:3], window, strides, padding)

    def window_sum(images: Array) -> Array:
        zero = jnp.zeros((), images.dtype)
        edges = ((0, 0), *pads, (0, 0))
        return lax.reduce_window(images, zero, lax.add, (1, *window, 1), (1, *strides, 1), edges)

    return window_sum(x) / window_sum(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


def upsample_nearest(
    x: Float[Array, "batch height width channels"], factor: int = 2
) -> Float[Array, "batch out_height out_width channels"]:
    """Repeat each pixel `factor` times in both directions.

    Args:
        x: Images.
        factor: Enlargement, at least 1.

    Returns:
        The enlarged images.

    Raises:
        ValueError: If `factor` is less than 1.
    """
    if factor < 1:
        raise ValueError(f"upsample_nearest: factor is {factor}, needs at least 1")
    return upsampling.repeat(x, factor=factor)


def stage(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Marks the output of a stage: what training keeps while it computes the rest again.

    Args:
        x: the output.

    Returns:
        The same.
    """
    return checkpoint_name(x, STAGE)


class Conv(nn.Module):
    """Convolution with parameters `kernel` (HWIO) and `bias`, as `flax.linen.Conv` names them.

    Attributes:
        features: Number of output channels.
        kernel_size: Height and width of the kernel.
        strides: Steps between outputs.
        padding: As for `conv`.
        use_bias: Whether to add a bias to each output channel.
        dtype: Type to compute in and to return; None means that of images and parameters.
            Parameters are float32 in any case.
        kernel_init: Initialiser of the kernel.
        bias_init: Initialiser of the bias.
    """

    features: int
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: PaddingLike = "SAME"
    use_bias: bool = True
    dtype: Dtype | None = None
    kernel_init: Initializer = nn.linear.default_kernel_init
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch out_height out_width features"]:
        """Convolve images.

        Args:
            x: Images.

        Returns:
            The feature maps.
        """
        shape = (*self.kernel_size, x.shape[-1], self.features)
        x, kernel, bias = _parameters(self, x, shape)
        y = conv(x, kernel, strides=self.strides, padding=self.padding)
        return y if bias is None else y + bias


class ConvTranspose(nn.Module):
    """Transposed convolution with the parameters and alignment of `flax.linen.ConvTranspose`.

    Attributes:
        features: Number of output channels.
        kernel_size: Height and width of the kernel.
        strides: Enlargement.
        padding: As for `conv_transpose`.
        use_bias: Whether to add a bias to each output channel.
        dtype: Type to compute in and to return; None means that of images and parameters.
            Parameters are float32 in any case.
        kernel_init: Initialiser of the kernel.
        bias_init: Initialiser of the bias.
    """

    features: int
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: PaddingLike = "SAME"
    use_bias: bool = True
    dtype: Dtype | None = None
    kernel_init: Initializer = nn.linear.default_kernel_init
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch out_height out_width features"]:
        """Convolve images whose pixels are spread apart.

        Args:
            x: Images.

        Returns:
            The feature maps.
        """
        shape = (*self.kernel_size, x.shape[-1], self.features)
        x, kernel, bias = _parameters(self, x, shape)
        y = conv_transpose(x, kernel, strides=self.strides, padding=self.padding)
        return y if bias is None else y + bias


def _parameters(
    layer: Conv | ConvTranspose, x: Array, shape: tuple[int, ...]
) -> tuple[Array, Array, Array | None]:
    """Images, kernel and bias in the layer's dtype of computation."""
    kernel = layer.param("kernel", layer.kernel_init, shape, jnp.float32)
    bias = None
    if layer.use_bias:
        bias = layer.param("bias", layer.bias_init, (layer.features,), jnp.float32)
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=layer.dtype)
    return x, kernel, bias


def _check_name(padding: str) -> None:
    if padding not in ("SAME", "VALID"):
        raise ValueError(
            f'padding is {padding!r}, needs "SAME", "VALID" or ((top, bottom), (left, right))'
        )


def _pads(
    name: str, size: Sequence[int], window: Sequence[int], strides: Pair, padding: PaddingLike
) -> Padding:
    """The padding in pixels, checked to leave room for one window."""
    if isinstance(padding, str):
        _check_name(padding)
        pairs = lax.padtype_to_pads(size, window, strides, padding)
    else:
        pairs = list(padding)
        if [len(pair) for pair in pairs] != [2, 2]:
            raise ValueError(f"{name}: padding is {padding}, needs two pairs")
    if any(n + sum(p) < k for n, p, k in zip(size, pairs, window, strict=True)):
        raise ValueError(
            f"{name}: window is {tuple(window)}, needs to fit the image of {tuple(size)} "
            f"padded by {tuple(pairs)}"
        )
    (top, bottom), (left, right) = pairs
    return ((int(top), int(bottom)), (int(left), int(right)))


def _transposed_pads(window: int, stride: int, padding: str) -> Pair:
    """Zeros before and after the spread image that give "SAME" or "VALID" its output size."""
    if padding == "VALID":
        return window - 1, max(window, stride) - 1
    total = window + stride - 2
    before = window - 1 if stride > window - 1 else -(-total // 2)
    return before, total - before
