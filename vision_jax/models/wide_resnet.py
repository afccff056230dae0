"""Wide residual networks for small images, such as `wrn_28_10`.

Zagoruyko and Komodakis, "Wide residual networks", 2016. Batch norm and ReLU come before each
convolution (He et al., "Identity mappings in deep residual networks", 2016). The wider networks for
ImageNet, `wide_resnet50_2` and so on, are in `vision_jax.models.resnet`.
"""

from collections.abc import Sequence
from functools import partial

from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers

Maps = Float[Array, "batch _ _ _"]

_he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class WideResNet(nn.Module):
    """Three stages of pre-activated residual blocks, a global average and a dense output.

    Called with images (B, H, W, C) in [0, 1], it returns the logits (B, num_classes) and the
    endpoints `stem`, `stage1` to `stage3`, `features` (the last map, normalised), `embedding`
    (B, D), its average, and `logits`.

    Attributes:
        depth: Number of convolutions on the longest path, 4 more than a multiple of 6.
        width: How many times the channels of the original network, (16, 32, 64).
        num_classes: Width of the output; 0 for none, which makes the embedding the output.
        dropout: Fraction dropped between a block's convolutions in training.
        mean: Mean to subtract from the images; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
        dtype: Type to compute in, such as bfloat16. Parameters, statistics, embedding and logits
            stay float32.

    Raises:
        ValueError: If `depth` is not 4 more than a multiple of 6.
    """

    depth: int = 28
    width: int = 10
    num_classes: int = 10
    dropout: float = 0.0
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch out"], dict[str, Array]]:
        """Classify images; see the class."""
        blocks, rest = divmod(self.depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth is {self.depth}, needs 4 more than a multiple of 6")
        x = layers.normalize(images, self.mean, self.std)
        x = layers.stage(_conv(16, 3, 1, self.dtype, "conv1")(x))
        endpoints = {"stem": x}
        for number in (1, 2, 3):
            for place in range(blocks):
                x = _Block(
                    16 * self.width * 2 ** (number - 1),
                    2 if number > 1 and place == 0 else 1,
                    self.dropout,
                    self.dtype,
                    name=f"block{number}_{place}",
                )(x, train)
                x = layers.stage(x)
            endpoints[f"stage{number}"] = x
        x = nn.relu(layers.BatchNorm(name="bn1")(x, train))
        return layers.classify(x, endpoints, self.num_classes, self.dtype, name="fc")


class _Block(nn.Module):
    features: int
    stride: int
    dropout: float
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        ahead = nn.relu(layers.BatchNorm(name="bn1")(x, train))
        y = _conv(self.features, 3, self.stride, self.dtype, "conv1")(ahead)
        y = nn.relu(layers.BatchNorm(name="bn2")(y, train))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = _conv(self.features, 3, 1, self.dtype, "conv2")(y)
        if self.stride == 1 and x.shape[-1] == self.features:
            return x + y
        return _conv(self.features, 1, self.stride, self.dtype, "shortcut")(ahead) + y


def _conv(features: int, size: int, stride: int, dtype: Dtype | None, name: str) -> layers.Conv:
    return layers.Conv(
        features,
        size,
        stride,
        size // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=_he,
        name=name,
    )


wrn_16_4 = partial(WideResNet, depth=16, width=4)
wrn_16_8 = partial(WideResNet, depth=16, width=8)
wrn_28_10 = partial(WideResNet, depth=28, width=10)
wrn_40_2 = partial(WideResNet, depth=40, width=2)
wrn_40_4 = partial(WideResNet, depth=40, width=4)
