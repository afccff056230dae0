"""DenseNet: layers that see the maps of all layers before them, with torchvision's weights.

Huang et al., "Densely connected convolutional networks", 2017. A parameter of torchvision is found
here by its name, dots as levels: `features.denseblock1.denselayer1.norm1.weight` is
`params["features"]["denseblock1"]["denselayer1"]["norm1"]["scale"]`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers
from vision_jax.ops import avg_pool, max_pool

Maps = Float[Array, "batch _ _ _"]
Layer = Callable[..., Any]

_he = nn.initializers.he_normal()


class DenseNet(nn.Module):
    """Blocks of densely connected layers with transitions between, an average and a dense output.

    Called with images (B, H, W, C) in [0, 1], it returns the logits (B, num_classes) and the
    endpoints `stem`, `stage1` to `stage4` (the concatenated maps of each block), `features` (the
    last map, normalised), `embedding` (B, D), its average, and `logits`.

    Attributes:
        depths: Layers of each block.
        growth: Channels that each layer adds.
        stem: Channels of the first convolution.
        num_classes: Width of the output; 0 for none, which makes the embedding the output.
        dropout: Fraction of each layer's channels' values dropped in training.
        epsilon: Added to the variance in batch norm.
        mean: Mean to subtract from the images; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
        dtype: Type to compute in, such as bfloat16. Parameters, statistics, embedding and logits
            stay float32.
    """

    depths: Sequence[int] = (6, 12, 24, 16)
    growth: int = 32
    stem: int = 64
    num_classes: int = 1000
    dropout: float = 0.0
    epsilon: float = 1e-5
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch out"], dict[str, Array]]:
        """Classify images; see the class."""
        x = layers.normalize(images, self.mean, self.std)
        norm = partial(layers.BatchNorm, epsilon=self.epsilon)
        body = _Features(
            self.depths, self.growth, self.stem, self.dropout, norm, self.dtype, name="features"
        )
        x, endpoints = body(x, train)
        return layers.classify(x, endpoints, self.num_classes, self.dtype, name="classifier")


class _Features(nn.Module):
    depths: Sequence[int]
    growth: int
    stem: int
    dropout: float
    norm: Layer
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> tuple[Maps, dict[str, Maps]]:
        x = _conv(self.stem, 7, self.dtype, "conv0", stride=2)(x)
        x = nn.relu(self.norm(name="norm0")(x, train))
        x = layers.stage(max_pool(x, 3, 2, 1))
        endpoints = {"stem": x}
        layer = partial(_Layer, self.growth, self.dropout, self.norm, self.dtype)
        for number, depth in enumerate(self.depths, start=1):
            x = _Block(depth, layer, name=f"denseblock{number}")(x, train)
            endpoints[f"stage{number}"] = x
            if number < len(self.depths):
                transition = _Transition(self.norm, self.dtype, name=f"transition{number}")
                x = layers.stage(transition(x, train))
        norm = self.norm(name=f"norm{len(self.depths) + 1}")
        return nn.relu(norm(x, train)), endpoints


class _Block(nn.Module):
    depth: int
    layer: Layer

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        for number in range(1, self.depth + 1):
            layer = self.layer(name=f"denselayer{number}")
            x = layers.stage(jnp.concatenate([x, layer(x, train)], -1))
        return x


class _Layer(nn.Module):
    growth: int
    dropout: float
    norm: Layer
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        x = nn.relu(self.norm(name="norm1")(x, train))
        x = _conv(4 * self.growth, 1, self.dtype, "conv1")(x)
        x = nn.relu(self.norm(name="norm2")(x, train))
        x = _conv(self.growth, 3, self.dtype, "conv2")(x)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class _Transition(nn.Module):
    norm: Layer
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        y = nn.relu(self.norm(name="norm")(x, train))
        return avg_pool(_conv(x.shape[-1] // 2, 1, self.dtype, "conv")(y))


def _conv(features: int, size: int, dtype: Dtype | None, name: str, stride: int = 1) -> layers.Conv:
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


densenet121 = partial(DenseNet, depths=(6, 12, 24, 16))
densenet161 = partial(DenseNet, depths=(6, 12, 36, 24), growth=48, stem=96)
densenet169 = partial(DenseNet, depths=(6, 12, 32, 32))
densenet201 = partial(DenseNet, depths=(6, 12, 48, 32))
