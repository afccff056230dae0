"""VGG: stacks of 3x3 convolutions, with torchvision's names and weights.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015.
A parameter of torchvision is found here by its name, dots as levels; the kernel of `classifier.0`
sees (rows, columns, channels) where PyTorch's sees (channels, rows, columns).
"""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers
from vision_jax.ops import max_pool

Maps = Float[Array, "batch _ _ _"]

_he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_dense = nn.initializers.normal(0.01)

POOLED = 7
"""Height and width that the last map is averaged to, whatever its size."""


class VGG(nn.Module):
    """Stages of 3x3 convolutions and 2x2 max-pooling, then dense layers.

    Called with images (B, H, W, C) in [0, 1] of any size from 32x32, it returns the logits
    (B, num_classes) and the endpoints `stage1` to `stage5` (after each pooling), `features` (the
    last map), `embedding` (B, hidden), the last hidden layer before dropout, and `logits`.

    Attributes:
        depths: Convolutions of each stage.
        batch_norm: Whether batch norm follows each convolution.
        num_classes: Width of the output; 0 for none, which makes the embedding the output.
        hidden: Width of the two dense layers; 0 for none, which makes the average of the last map
            the embedding.
        dropout: Fraction dropped after each of them in training.
        mean: Mean to subtract from the images; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
        dtype: Type to compute in, such as bfloat16. Parameters, statistics, embedding and logits
            stay float32.
    """

    depths: Sequence[int] = (2, 2, 3, 3, 3)
    batch_norm: bool = False
    num_classes: int = 1000
    hidden: int = 4096
    dropout: float = 0.5
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch out"], dict[str, Array]]:
        """Classify images; see the class."""
        x = layers.normalize(images, self.mean, self.std)
        maps = _Features(self.depths, self.batch_norm, self.dtype, name="features")(x, train)
        endpoints = {f"stage{number}": x for number, x in enumerate(maps, start=1)}
        if not self.hidden:
            return layers.classify(
                maps[-1], endpoints, self.num_classes, self.dtype, name="classifier"
            )
        x = adaptive_average(maps[-1], POOLED)
        x = x.reshape(x.shape[0], -1)
        hidden = _Classifier(
            self.num_classes, self.hidden, self.dropout, self.dtype, name="classifier"
        )
        output, embedding = hidden(x, train)
        endpoints |= {"features": maps[-1], "embedding": embedding}
        return output, endpoints | ({"logits": output} if self.num_classes else {})


class _Features(nn.Module):
    depths: Sequence[int]
    batch_norm: bool
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> list[Maps]:
        maps, place = [], 0  # in torchvision's list of layers
        for stage, depth in enumerate(self.depths):
            for number in range(depth):
                is_last = number == depth - 1
                x = layers.Conv(
                    min(64 * 2**stage, 512),
                    pool=2 if is_last and not self.batch_norm else 1,
                    dtype=self.dtype,
                    kernel_init=_he,
                    name=str(place),
                )(x)
                if self.batch_norm:
                    x = layers.BatchNorm(name=str(place + 1))(x, train)
                x = nn.relu(x)
                place += 3 if self.batch_norm else 2
            if self.batch_norm:
                x = max_pool(x)
            x = layers.stage(x)
            place += 1
            maps.append(x)
        return maps


class _Classifier(nn.Module):
    num_classes: int
    hidden: int
    dropout: float
    dtype: Dtype | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch width"], train: bool
    ) -> tuple[Float[Array, "batch out"], Float[Array, "batch hidden"]]:
        x = nn.relu(self._dense(self.hidden, "0")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.relu(self._dense(self.hidden, "3")(x))
        embedding = x.astype(jnp.float32)
        if not self.num_classes:
            return embedding, embedding
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return self._dense(self.num_classes, "6")(x).astype(jnp.float32), embedding

    def _dense(self, width: int, name: str) -> nn.Dense:
        return nn.Dense(width, dtype=self.dtype, kernel_init=_dense, name=name)


def adaptive_average(x: Maps, size: int) -> Maps:
    """Average maps to a fixed size over windows that cover them, as PyTorch does.

    Args:
        x: (B, H, W, C) maps.
        size: Height and width of the result.

    Returns:
        (B, size, size, C).
    """
    if x.shape[1:3] == (size, size):
        return x
    rows, columns = (jnp.asarray(_windows(length, size), x.dtype) for length in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)


def _windows(length: int, size: int) -> np.ndarray:
    """Return the share of each of `length` pixels in each of `size` averages."""
    weights = np.zeros((size, length))
    for place in range(size):
        start, stop = place * length // size, -(-(place + 1) * length // size)
        weights[place, start:stop] = 1 / (stop - start)
    return weights


vgg11 = partial(VGG, depths=(1, 1, 2, 2, 2))
vgg13 = partial(VGG, depths=(2, 2, 2, 2, 2))
vgg16 = partial(VGG, depths=(2, 2, 3, 3, 3))
vgg19 = partial(VGG, depths=(2, 2, 4, 4, 4))
vgg11_bn = partial(vgg11, batch_norm=True)
vgg13_bn = partial(vgg13, batch_norm=True)
vgg16_bn = partial(vgg16, batch_norm=True)
vgg19_bn = partial(vgg19, batch_norm=True)
