"""EfficientNet-Lite: inverted residuals without squeeze-and-excitation, for small devices.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019, in the
variants of TensorFlow's `tpu/models/official/efficientnet/lite`: ReLU6 and a stem and head that do
not scale. Convolutions are padded as TensorFlow's "SAME", batch norm has its epsilon of 1e-3, as in
timm's `tf_efficientnet_lite0` and so on; its `efficientnet_lite0` needs other options. A parameter
of timm is found here by its name, dots as levels.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers

Maps = Float[Array, "batch _ _ _"]
Layer = Callable[..., Any]

_he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

STEM, HEAD = 32, 1280


class _Stage(NamedTuple):
    """Blocks of one shape: number, kernel, stride of the first, expansion and channels."""

    depth: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite(nn.Module):
    """Seven stages of inverted residuals, a 1x1 convolution, an average and a dense output.

    Called with images (B, H, W, C) in [0, 1], it returns the logits (B, num_classes) and the
    endpoints `stem`, `stage1` to `stage7`, `features` (the last map, of 1280 channels),
    `embedding` (B, 1280), its average, and `logits`.

    Attributes:
        width: Factor of the channels.
        depth: Factor of the number of blocks; the first and the last stage keep theirs.
        num_classes: Width of the output; 0 for none, which makes the embedding the output.
        dropout: Fraction of the embedding dropped in training.
        padding: "same" (TensorFlow's) or "symmetric" (of k // 2 pixels on all sides).
        epsilon: Added to the variance in batch norm.
        mean: Mean to subtract from the images; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
        dtype: Type to compute in, such as bfloat16. Parameters, statistics, embedding and logits
            stay float32.
    """

    width: float = 1.0
    depth: float = 1.0
    num_classes: int = 1000
    dropout: float = 0.2
    padding: Literal["same", "symmetric"] = "same"
    epsilon: float = 1e-3
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch out"], dict[str, Array]]:
        """Classify images; see the class."""
        if self.padding not in ("same", "symmetric"):
            raise ValueError(f'padding is {self.padding!r}, needs "same" or "symmetric"')
        conv = partial(_conv, self.padding == "symmetric", self.dtype)
        norm = partial(layers.BatchNorm, momentum=0.99, epsilon=self.epsilon)
        x = layers.normalize(images, self.mean, self.std)
        x = conv(STEM, 3, 2, name="conv_stem")(x)
        x = layers.stage(nn.relu6(norm(name="bn1")(x, train)))
        endpoints = {"stem": x}
        maps = _Stages(self._scaled(), conv, norm, name="blocks")(x, train)
        endpoints |= {f"stage{number}": x for number, x in enumerate(maps, start=1)}
        x = maps[-1]
        x = conv(HEAD, 1, 1, name="conv_head")(x)
        x = layers.stage(nn.relu6(norm(name="bn2")(x, train)))
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        return layers.classify(
            x, endpoints, self.num_classes, self.dtype, name="classifier", dropout=dropout
        )

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        return tuple(stage.depth for stage in self._scaled())

    def _scaled(self) -> tuple[_Stage, ...]:
        first, *middle, last = (
            stage._replace(channels=_round(stage.channels * self.width)) for stage in _STAGES
        )
        deeper = (s._replace(depth=math.ceil(s.depth * self.depth)) for s in middle)
        return (first, *deeper, last)


class _Stages(nn.Module):
    stages: Sequence[_Stage]
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> list[Maps]:
        maps = []
        for number, stage in enumerate(self.stages):
            x = _Blocks(stage, self.conv, self.norm, name=str(number))(x, train)
            maps.append(x)
        return maps


class _Blocks(nn.Module):
    stage: _Stage
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        for number in range(self.stage.depth):
            stage = self.stage if number == 0 else self.stage._replace(stride=1)
            x = layers.stage(_Block(stage, self.conv, self.norm, name=str(number))(x, train))
        return x


class _Block(nn.Module):
    """An expansion, a depthwise convolution and a projection; timm's names for each."""

    stage: _Stage
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        _, kernel, stride, expansion, channels = self.stage
        y, norms, project = x, iter(("bn1", "bn2", "bn3")), "conv_pw"
        if expansion > 1:
            y = self.conv(x.shape[-1] * expansion, 1, 1, name="conv_pw")(y)
            y = nn.relu6(self.norm(name=next(norms))(y, train))
            project = "conv_pwl"
        width = y.shape[-1]
        y = self.conv(width, kernel, stride, groups=width, name="conv_dw")(y)
        y = nn.relu6(self.norm(name=next(norms))(y, train))
        y = self.conv(channels, 1, 1, name=project)(y)
        y = self.norm(name=next(norms))(y, train)
        return x + y if x.shape == y.shape and stride == 1 else y


def _round(channels: float) -> int:
    """Round channels to a multiple of 8, down by a tenth at most."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv(
    symmetric: bool,
    dtype: Dtype | None,
    features: int,
    size: int,
    stride: int,
    *,
    name: str,
    groups: int = 1,
) -> layers.Conv:
    return layers.Conv(
        features,
        size,
        stride,
        size // 2 if symmetric else "SAME",
        groups=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=_he,
        name=name,
    )


efficientnet_lite0 = partial(EfficientNetLite, width=1.0, depth=1.0, dropout=0.2)
efficientnet_lite1 = partial(EfficientNetLite, width=1.0, depth=1.1, dropout=0.2)
efficientnet_lite2 = partial(EfficientNetLite, width=1.1, depth=1.2, dropout=0.3)
efficientnet_lite3 = partial(EfficientNetLite, width=1.2, depth=1.4, dropout=0.3)
efficientnet_lite4 = partial(EfficientNetLite, width=1.4, depth=1.8, dropout=0.3)
