"""A convolutional classifier: stages of convolution, ReLU and max-pooling, then dense layers."""

import warnings
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.errors import DataWarning
from vision_jax.models import layers

# Keras's default; biases start at zero there as in Flax.
_glorot = jax.nn.initializers.glorot_uniform()


class CNN(nn.Module):
    """Stages of 3x3 convolution, ReLU and 2x2 max-pooling, a dense ReLU layer, and a dense output.

    The defaults suit 224x224x3 images and have 9,683,658 parameters with 10 classes. Smaller images
    need `padding="SAME"` or fewer stages.

    Called with images (B, H, W, C) in [0, 1], it returns the logits (B, num_classes) and the
    endpoints `stage1`, `stage2`, ... (B, h, w, channels) after each pooling and `embedding`
    (B, hidden), the dense layer's output before dropout, at least 0.

    Attributes:
        num_classes: Width of the output; 0 for none, which makes the embedding the output.
        stages: Channels of each stage.
        hidden: Width of the dense layer.
        padding: Padding of the convolutions; pooling is always VALID.
        dropout: Fraction of the embedding dropped in training.
        mean: Mean to subtract from the images; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
        dtype: Type to compute in, such as bfloat16. Parameters and logits stay float32.

    Raises:
        ValueError: If the images are too small for the stages.
    """

    num_classes: int
    stages: Sequence[int] = (32, 64, 128, 128)
    hidden: int = 512
    padding: Literal["SAME", "VALID"] = "VALID"
    dropout: float = 0.0
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch classes"], dict[str, Array]]:
        """Classify images; see the class."""
        self._check_size(*images.shape[1:3], train=train)
        endpoints: dict[str, Array] = {}
        x = layers.normalize(images, self.mean, self.std)
        for number, features in enumerate(self.stages, start=1):
            x = layers.Conv(
                features,
                padding=self.padding,
                pool=2,
                dtype=self.dtype,
                kernel_init=_glorot,
                name=f"conv{number}",
            )(x)
            x = layers.stage(nn.relu(x))
            endpoints[f"stage{number}"] = x
        x = x.reshape(x.shape[0], -1)
        dense = nn.Dense(self.hidden, dtype=self.dtype, kernel_init=_glorot, name="dense")
        x = nn.relu(dense(x))
        endpoints["embedding"] = x.astype(jnp.float32)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        if not self.num_classes:
            return x.astype(jnp.float32), endpoints
        output = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=_glorot, name="logits")
        return output(x).astype(jnp.float32), endpoints

    def _check_size(self, height: int, width: int, *, train: bool) -> None:
        """Refuse images of which nothing is left; warn of training on the one pixel that is."""
        lost = 2 if self.padding == "VALID" else 0
        size = min(height, width)
        for _ in self.stages:
            size = (size - lost) // 2
        if size < 1:
            needed = 1
            for _ in self.stages:
                needed = 2 * needed + lost
            raise ValueError(
                f"images of {height}x{width} are too small for {len(self.stages)} stages with "
                f"{self.padding} padding, which need {needed}x{needed}; use SAME padding or fewer "
                "stages"
            )
        padded = min(height, width) >> len(self.stages)
        if train and size == 1 and padded > 1:
            warnings.warn(
                f"images of {height}x{width} are 1x1 after {len(self.stages)} stages with VALID "
                f"padding, where SAME padding would leave {padded}x{padded}",
                DataWarning,
                stacklevel=2,
            )
