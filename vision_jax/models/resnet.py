"""Residual networks: ResNet, Wide ResNet and ResNeXt with torchvision's names and weights.

He et al., "Deep residual learning for image recognition", 2016; of the bottleneck the 3x3
convolution has the stride (v1.5). Xie et al., "Aggregated residual transformations for deep neural
networks", 2017. A parameter of torchvision is found here by its name, dots as levels:
`layer1.0.conv1.weight` is `params["layer1"]["0"]["conv1"]["kernel"]`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers
from vision_jax.ops import max_pool

Maps = Float[Array, "batch _ _ _"]
Layer = Callable[..., Any]

_he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# From zero, a block starts as its shortcut (Goyal et al., "Accurate, large minibatch SGD", 2017).
_zeros = nn.initializers.zeros_init()


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
        stride_in: The bottleneck's convolution that has the stride: "conv2", the 3x3 (v1.5), or
            "conv1", the first 1x1 (v1, as in Keras).
        use_bias: Whether convolutions have a bias.
        epsilon: Added to the variance in batch norm.
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
    stride_in: Literal["conv1", "conv2"] = "conv2"
    use_bias: bool = False
    epsilon: float = 1e-5
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch out"], dict[str, Array]]:
        """Classify images; see the class."""
        if self.stride_in not in ("conv1", "conv2"):
            raise ValueError(f'stride_in is {self.stride_in!r}, needs "conv1" or "conv2"')
        conv = partial(layers.Conv, use_bias=self.use_bias, dtype=self.dtype, kernel_init=_he)
        norm = partial(layers.BatchNorm, epsilon=self.epsilon)
        x = layers.normalize(images, self.mean, self.std)
        x = self._stem(x, conv, norm, train)
        endpoints = {"stem": x}
        for number, depth in enumerate(self.depths, start=1):
            width = 64 * 2 ** (number - 1)
            stride = 1 if number == 1 else 2
            block: Callable[..., nn.Module] = partial(_Basic, width, conv, norm)
            if self.bottleneck:
                inner = width * self.group_width // 64 * self.groups
                block = partial(
                    _Bottleneck, width, conv, norm, inner, self.groups, self.stride_in == "conv1"
                )
            x = _Stage(depth, stride, block, name=f"layer{number}")(x, train)
            endpoints[f"stage{number}"] = x
        return layers.classify(x, endpoints, self.num_classes, self.dtype, name="fc")

    def _stem(self, x: Maps, conv: Layer, norm: Layer, train: bool) -> Maps:
        match self.stem:
            case "imagenet":
                size, stride = 7, 2
            case "small":
                size, stride = 3, 1
            case _:
                raise ValueError(f'stem is {self.stem!r}, needs "imagenet" or "small"')
        x = conv(64, size, stride, size // 2, name="conv1")(x)
        x = nn.relu(norm(name="bn1")(x, train))
        return layers.stage(max_pool(x, 3, 2, 1) if self.stem == "imagenet" else x)


class _Stage(nn.Module):
    depth: int
    stride: int
    block: Layer

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        for number in range(self.depth):
            stride = self.stride if number == 0 else 1
            x = layers.stage(self.block(stride=stride, name=str(number))(x, train))
        return x


class _Basic(nn.Module):
    width: int
    conv: Layer
    norm: Layer
    stride: int

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        y = self.conv(self.width, 3, self.stride, 1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, train))
        y = self.conv(self.width, 3, 1, 1, name="conv2")(y)
        y = self.norm(name="bn2", scale_init=_zeros)(y, train)
        return nn.relu(y + _shortcut(self, x, y, train))


class _Bottleneck(nn.Module):
    width: int
    conv: Layer
    norm: Layer
    inner: int
    groups: int
    early: bool
    stride: int

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        first, second = (self.stride, 1) if self.early else (1, self.stride)
        y = self.conv(self.inner, 1, first, 0, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, train))
        y = self.conv(self.inner, 3, second, 1, groups=self.groups, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y, train))
        y = self.conv(4 * self.width, 1, 1, 0, name="conv3")(y)
        y = self.norm(name="bn3", scale_init=_zeros)(y, train)
        return nn.relu(y + _shortcut(self, x, y, train))


class _Downsample(nn.Module):
    """A 1x1 convolution and its batch norm, which fit a shortcut to the block's output."""

    features: int
    conv: Layer
    norm: Layer
    stride: int

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        x = self.conv(self.features, 1, self.stride, 0, name="0")(x)
        return self.norm(name="1")(x, train)


def _shortcut(block: _Basic | _Bottleneck, x: Maps, y: Maps, train: bool) -> Maps:
    if block.stride == 1 and x.shape == y.shape:
        return x
    fit = _Downsample(y.shape[-1], block.conv, block.norm, block.stride, name="downsample")
    return fit(x, train)


resnet18 = partial(ResNet, depths=(2, 2, 2, 2))
resnet34 = partial(ResNet, depths=(3, 4, 6, 3))
resnet50 = partial(ResNet, depths=(3, 4, 6, 3), bottleneck=True)
resnet101 = partial(ResNet, depths=(3, 4, 23, 3), bottleneck=True)
resnet152 = partial(ResNet, depths=(3, 8, 36, 3), bottleneck=True)
wide_resnet50_2 = partial(resnet50, group_width=128)
wide_resnet101_2 = partial(resnet101, group_width=128)
resnext50_32x4d = partial(resnet50, groups=32, group_width=4)
resnext101_32x8d = partial(resnet101, groups=32, group_width=8)
resnext101_64x4d = partial(resnet101, groups=64, group_width=4)
