"""Residual networks: ResNet, Wide ResNet and ResNeXt with torchvision's names and weights.

He et al., "Deep residual learning for image recognition", 2016; of the bottleneck the 3x3
convolution has the stride (v1.5). Xie et al., "Aggregated residual transformations for deep neural
networks", 2017. A parameter of torchvision is found here by its name, dots as levels:
`layer1.0.conv1.weight` is `params["layer1"]["0"]["conv1"]["kernel"]`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers
from vision_jax.ops import PairLike, max_pool

Maps = Float[Array, "batch _ _ _"]

_he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet(nn.Module):
    """Four stages of residual blocks, a global average and a dense output.

    Called with images (B, H, W, C) in [0, 1], it returns the logits (B, num_classes) and the
    endpoints `stem`, `stage1` to `stage4`, `features` (the last map), `embedding` (B, D), its
    average, and `logits`.

    Attributes:
        depths: Blocks of each stage.
        bottleneck: Whether blocks are of three convolutions, the last with four times the
            channels, in place of two.
        num_classes: Width of the output; 0 for none, which makes the embedding the output.
        stem: "imagenet" (7x7 at stride 2, then max-pooling) or "small" (3x3 at stride 1), which
            suits images of up to 64 pixels.
        groups: Groups of the bottleneck's 3x3 convolution.
        group_width: Channels of each group in the first stage.
        mean: Mean to subtract from the images; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
        dtype: Type to compute in, such as bfloat16. Parameters, statistics, embedding and logits
            stay float32.
    """

    depths: Sequence[int] = (2, 2, 2, 2)
    bottleneck: bool = False
    num_classes: int = 1000
    stem: Literal["imagenet", "small"] = "imagenet"
    groups: int = 1
    group_width: int = 64
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch out"], dict[str, Array]]:
        """Classify images; see the class."""
        x = layers.normalize(images, self.mean, self.std)
        x = self._stem(x, train)
        endpoints = {"stem": x}
        for number, depth in enumerate(self.depths, start=1):
            x = _Stage(
                depth,
                64 * 2 ** (number - 1),
                1 if number == 1 else 2,
                self.bottleneck,
                self.groups,
                self.group_width,
                self.dtype,
                name=f"layer{number}",
            )(x, train)
            endpoints[f"stage{number}"] = x
        return layers.classify(x, endpoints, self.num_classes, self.dtype, name="fc")

    def _stem(self, x: Maps, train: bool) -> Maps:
        match self.stem:
            case "imagenet":
                size, stride = 7, 2
            case "small":
                size, stride = 3, 1
            case _:
                raise ValueError(f'stem is {self.stem!r}, needs "imagenet" or "small"')
        x = _conv(64, size, stride, self.dtype, "conv1")(x)
        x = nn.relu(layers.BatchNorm(name="bn1")(x, train))
        return layers.stage(max_pool(x, 3, 2, 1) if self.stem == "imagenet" else x)


class _Stage(nn.Module):
    depth: int
    width: int
    stride: int
    bottleneck: bool
    groups: int
    group_width: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        for number in range(self.depth):
            stride = self.stride if number == 0 else 1
            block: nn.Module
            if self.bottleneck:
                inner = self.width * self.group_width // 64 * self.groups
                block = _Bottleneck(
                    self.width, inner, stride, self.groups, self.dtype, name=str(number)
                )
            else:
                block = _Basic(self.width, stride, self.dtype, name=str(number))
            x = layers.stage(block(x, train))
        return x


class _Basic(nn.Module):
    width: int
    stride: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        y = _conv(self.width, 3, self.stride, self.dtype, "conv1")(x)
        y = nn.relu(layers.BatchNorm(name="bn1")(y, train))
        y = _conv(self.width, 3, 1, self.dtype, "conv2")(y)
        y = _last_norm("bn2")(y, train)
        return nn.relu(y + _shortcut(x, y, self.stride, self.dtype, train))


class _Bottleneck(nn.Module):
    width: int
    inner: int
    stride: int
    groups: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        y = _conv(self.inner, 1, 1, self.dtype, "conv1")(x)
        y = nn.relu(layers.BatchNorm(name="bn1")(y, train))
        y = _conv(self.inner, 3, self.stride, self.dtype, "conv2", self.groups)(y)
        y = nn.relu(layers.BatchNorm(name="bn2")(y, train))
        y = _conv(4 * self.width, 1, 1, self.dtype, "conv3")(y)
        y = _last_norm("bn3")(y, train)
        return nn.relu(y + _shortcut(x, y, self.stride, self.dtype, train))


class _Downsample(nn.Module):
    """A 1x1 convolution and its batch norm, which fit a shortcut to the block's output."""

    features: int
    stride: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        x = _conv(self.features, 1, self.stride, self.dtype, "0")(x)
        return layers.BatchNorm(name="1")(x, train)


def _shortcut(x: Maps, y: Maps, stride: int, dtype: Dtype | None, train: bool) -> Maps:
    if stride == 1 and x.shape == y.shape:
        return x
    return _Downsample(y.shape[-1], stride, dtype, name="downsample")(x, train)


def _conv(
    features: int, size: int, stride: PairLike, dtype: Dtype | None, name: str, groups: int = 1
) -> layers.Conv:
    return layers.Conv(
        features,
        size,
        stride,
        size // 2,
        groups=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=_he,
        name=name,
    )


def _last_norm(name: str) -> layers.BatchNorm:
    # From zero, a block starts as its shortcut (Goyal et al., "Accurate, large minibatch SGD",
    # 2017).
    return layers.BatchNorm(scale_init=nn.initializers.zeros_init(), name=name)


resnet18 = partial(ResNet, depths=(2, 2, 2, 2))
resnet34 = partial(ResNet, depths=(3, 4, 6, 3))
resnet50 = partial(ResNet, depths=(3, 4, 6, 3), bottleneck=True)
resnet101 = partial(ResNet, depths=(3, 4, 23, 3), bottleneck=True)
resnet152 = partial(ResNet, depths=(3, 8, 36, 3), bottleneck=True)
wide_resnet50_2 = partial(resnet50, group_width=128)
wide_resnet101_2 = partial(resnet101, group_width=128)
resnext50_32x4d = partial(resnet50, groups=32, group_width=4)
resnext101_32x8d = partial(resnet101, groups=32, group_width=8)
