"""Linen layers on `vision_jax.ops`, and the stages that rematerialization keeps."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vision_jax.ops import PaddingLike, PairLike, conv, conv_transpose, max_pool
from vision_jax.ops.windows import resolve_pair
from vision_jax.parallel.devices import AXIS

Values = Float[Array, "batch ..."]

STAGE = "stage"
"""The name that `stage` gives to outputs."""


def stage(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Mark the output of a stage, which rematerialization keeps while it recomputes the rest.

    Args:
        x: The output.

    Returns:
        The same values.
    """
    return checkpoint_name(x, STAGE)


def normalize(
    images: Float[Array, "batch height width channels"],
    mean: Sequence[float],
    std: Sequence[float],
) -> Float[Array, "batch height width channels"]:
    """Subtract a mean from images, then divide by a standard deviation.

    Args:
        images: (B, H, W, C) floats, usually in [0, 1].
        mean: One value, or one per channel.
        std: One value above 0, or one per channel.

    Returns:
        (B, H, W, C), of the images' dtype.

    Raises:
        ValueError: If `mean` or `std` has neither 1 nor C values, a value of `std` is not above
            0, or the images are integers.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images are {images.dtype}, need floats in [0, 1]")
    channels = images.shape[-1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ValueError(f"{name} has {len(values)} values, needs 1 or {channels}")
    if not all(value > 0 for value in std):
        raise ValueError(f"std is {tuple(std)}, needs values above 0")
    return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)


def global_average(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch channels"]:
    """Average feature maps over their pixels.

    Args:
        x: (B, H, W, C) maps.

    Returns:
        (B, C) float32.
    """
    if x.dtype == jnp.bfloat16:
        # XLA's CPU compiler of jax 0.11 and 0.12 sums garbage if it fuses this with what comes
        # before it, such as the convolutions of a residual block.
        x = jax.lax.optimization_barrier(x)
    return jnp.mean(x.astype(jnp.float32), (1, 2))


def classify(
    x: Float[Array, "batch height width channels"],
    endpoints: dict[str, Array],
    num_classes: int,
    dtype: Dtype | None,
    *,
    name: str,
    dropout: nn.Dropout | None = None,
) -> tuple[Float[Array, "batch out"], dict[str, Array]]:
    """End a network: average the last map and classify the average by a dense layer.

    Call it within a module, whose child the layer becomes.

    Args:
        x: (B, H, W, C) the last map.
        endpoints: Those before it.
        num_classes: Width of the output; 0 for no layer, which makes the average the output.
        dtype: Type to compute the layer in.
        name: The layer's name.
        dropout: Applied to what the layer sees, not to the endpoint.

    Returns:
        The (B, num_classes) logits, and the endpoints with `features`, `embedding` and `logits`.
    """
    embedding = global_average(x)
    endpoints = {**endpoints, "features": x, "embedding": embedding}
    if not num_classes:
        return embedding, endpoints
    seen = dropout(embedding) if dropout else embedding
    logits = nn.Dense(num_classes, dtype=dtype, name=name)(seen).astype(jnp.float32)
    return logits, {**endpoints, "logits": logits}


_PER_DEVICE: ContextVar[bool] = ContextVar("per_device", default=False)


@contextlib.contextmanager
def statistics_per_device(enabled: bool = True) -> Iterator[None]:
    """Let batch norm in training see one device's images, while models are called in this context.

    Args:
        enabled: Whether to do so; False changes nothing.
    """
    token = _PER_DEVICE.set(enabled or _PER_DEVICE.get())
    try:
        yield
    finally:
        _PER_DEVICE.reset(token)


class BatchNorm(nn.BatchNorm):
    """Batch normalisation whose statistics in training span all devices.

    Within `statistics_per_device` they span the images of one, which saves the layer's collective
    operations.

    Parameters are `scale` and `bias`, running statistics `mean` and `var` in `batch_stats`. All are
    float32, and so is what is computed, whatever the type of the values. The defaults are
    PyTorch's, whose momentum of 0.1 is 0.9 here. See Ioffe and Szegedy, "Batch normalization:
    accelerating deep network training", 2015.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = AXIS

    def __post_init__(self) -> None:
        if _PER_DEVICE.get():
            self.axis_name = None
        super().__post_init__()

    def __call__(self, x: Values, train: bool = False) -> Values:  # type: ignore[override]
        """Normalise by the batch's statistics in training, else by the running ones.

        Args:
            x: Values whose last axis holds the channels.
            train: Whether to use the batch's statistics and update the running ones; where
                `batch_stats` is not mutable, they are frozen, and the running ones are used. Needs
                the axis that the devices are mapped over, unless it initialises.

        Returns:
            The normalised values, of the type of `x`.
        """
        is_low = jnp.finfo(x.dtype).bits < 32
        wide = x.astype(jnp.float32) if is_low else x
        moves = train and self.is_mutable_collection("batch_stats")
        return super().__call__(wide, use_running_average=not moves).astype(x.dtype)


class Conv(nn.Module):
    """Convolution with parameters `kernel` (HWIO) and `bias`, as `flax.linen.Conv` names them.

    Attributes:
        features: Number of output channels.
        kernel_size: Height and width of the kernel, or one integer for both.
        strides: Steps between outputs, likewise.
        padding: As for `conv`.
        dilation: Steps between the pixels that the kernel sees, likewise.
        groups: Number of parts that channels and features divide into; as many as there are
            channels make a depthwise convolution.
        pool: Side of the windows whose maximum is taken before the bias is added; 1 for none. The
            values are those of pooling last, and after a ReLU too, from a fraction of the memory's
            traffic.
        use_bias: Whether to add a bias to each output channel.
        dtype: Type to compute in and to return; the promoted type of images and parameters if
            None. Parameters stay float32.
        kernel_init: Initializer of the kernel.
        bias_init: Initializer of the bias.
    """

    features: int
    kernel_size: PairLike = 3
    strides: PairLike = 1
    padding: PaddingLike = "SAME"
    dilation: PairLike = 1
    groups: int = 1
    pool: int = 1
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
            The feature maps, pooled if `pool` is above 1.
        """
        x, kernel, bias = _parameters(self, x, self.groups)
        y = conv(
            x,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        if self.pool > 1:
            y = max_pool(y, self.pool)
        return y if bias is None else y + bias


class ConvTranspose(nn.Module):
    """Transposed convolution with the parameters and alignment of `flax.linen.ConvTranspose`.

    Attributes:
        features: Number of output channels.
        kernel_size: Height and width of the kernel, or one integer for both.
        strides: Enlargement, likewise.
        padding: As for `conv_transpose`.
        use_bias: Whether to add a bias to each output channel.
        dtype: Type to compute in and to return; the promoted type of images and parameters if
            None. Parameters stay float32.
        kernel_init: Initializer of the kernel.
        bias_init: Initializer of the bias.
    """

    features: int
    kernel_size: PairLike = 3
    strides: PairLike = 1
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
        x, kernel, bias = _parameters(self, x)
        y = conv_transpose(x, kernel, strides=self.strides, padding=self.padding)
        return y if bias is None else y + bias


def _parameters(
    layer: Conv | ConvTranspose, x: Array, groups: int = 1
) -> tuple[Array, Array, Array | None]:
    """Cast images, kernel and bias to the type to compute in."""
    name = type(layer).__name__
    window = resolve_pair(name, "kernel_size", layer.kernel_size)
    for what, count in (("features", layer.features), ("groups", groups)):
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name}: {what} is {count!r}, needs an integer of 1 or more")
    shape = (*window, x.shape[-1] // groups, layer.features)
    kernel = layer.param("kernel", layer.kernel_init, shape, jnp.float32)
    bias = None
    if layer.use_bias:
        bias = layer.param("bias", layer.bias_init, (layer.features,), jnp.float32)
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=layer.dtype)
    return x, kernel, bias
