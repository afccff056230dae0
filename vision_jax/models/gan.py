"""A deep convolutional GAN (Radford, Metz and Chintala, 2016): a generator and a discriminator.

Both use images in [-1, 1].
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers

Images = Float[Array, "batch height width channels"]
Maps = Float[Array, "batch _ _ _"]

_glorot = jax.nn.initializers.glorot_uniform()
_SLOPE = 0.3  # Keras's leaky ReLU


class Generator(nn.Module):
    """Latent vectors to images: a dense layer, then transposed 5x5 convolutions.

    The first convolution keeps the size, each later one doubles it. Batch normalisation precedes
    every activation but the last, which is tanh; in training its statistics span all devices. The
    defaults map 100 numbers to 16x16x3 with 1,455,552 parameters and statistics. 28x28x1 and
    32x32x3 need no other features; 64x64x3 needs one doubling more, such as
    `features=(512, 256, 128, 64)`.

    Called with standard normal latents (B, latent_size), it returns images (B, H, W, C) in [-1, 1]
    and the endpoints `stage1`, `stage2`, ... after each activation.

    Attributes:
        image_shape: (height, width, channels); each side a multiple of 2 to the power of
            `len(features) - 1`.
        features: Channels after the dense layer and after each convolution but the last.
        latent_size: Width of the latent vectors.
        dtype: Type to compute in, such as bfloat16. Parameters, statistics and images stay
            float32.

    Raises:
        ValueError: If the sides of the image do not halve evenly.
    """

    image_shape: tuple[int, int, int] = (16, 16, 3)
    features: Sequence[int] = (256, 128, 64)
    latent_size: int = 100
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, latents: Float[Array, "batch latent"], train: bool = False
    ) -> tuple[Images, dict[str, Maps]]:
        """Generate images; see the class."""
        height, width = self._base()
        first, *rest = self.features
        endpoints: dict[str, Maps] = {}

        x = nn.Dense(
            height * width * first,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_glorot,
            name="dense",
        )(latents)
        x = _norm("norm1")(x.astype(jnp.float32), train)
        x = layers.stage(nn.leaky_relu(x, _SLOPE).reshape(-1, height, width, first))
        endpoints["stage1"] = x
        for number, features in enumerate(rest, start=2):
            stride = 1 if number == 2 else 2
            x = self._transposed(features, stride, f"conv{number}")(x)
            x = _norm(f"norm{number}")(x.astype(jnp.float32), train)
            x = layers.stage(nn.leaky_relu(x, _SLOPE))
            endpoints[f"stage{number}"] = x
        last = self._transposed(self.image_shape[-1], 2 if rest else 1, "image")
        return nn.tanh(last(x).astype(jnp.float32)), endpoints

    def _base(self) -> tuple[int, int]:
        factor = 2 ** (len(self.features) - 1)
        height, width = self.image_shape[:2]
        if height % factor or width % factor:
            raise ValueError(
                f"images are {height}x{width}; {len(self.features)} features need height and "
                f"width that are multiples of {factor}"
            )
        return height // factor, width // factor

    def _transposed(self, features: int, stride: int, name: str) -> layers.ConvTranspose:
        return layers.ConvTranspose(
            features,
            (5, 5),
            (stride, stride),
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_glorot,
            name=name,
        )


class Discriminator(nn.Module):
    """Images to a logit, above 0 for those that look real: strided 5x5 convolutions.

    The defaults have 211,841 parameters for 16x16x3 images. Images may have any size.

    Called with images (B, H, W, C) in [-1, 1], it returns the logits (B,) and the endpoints
    `stage1`, `stage2`, ... after each activation and `embedding` (B, D), the last of them
    flattened.

    Attributes:
        features: Channels of each convolution.
        dropout: Fraction dropped after each activation in training.
        spectral_norm: Whether to divide each kernel by its largest singular value (Miyato et
            al., 2018), estimated by one power iteration a step.
        dtype: Type to compute in, such as bfloat16. Logits and embedding stay float32.
    """

    features: Sequence[int] = (64, 128)
    dropout: float = 0.3
    spectral_norm: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Images, train: bool = False
    ) -> tuple[Float[Array, " batch"], dict[str, Float[Array, "batch ..."]]]:
        """Judge images; see the class."""
        endpoints: dict[str, Array] = {}
        x = images
        for number, width in enumerate(self.features, start=1):
            conv = layers.Conv(
                width,
                (5, 5),
                (2, 2),
                dtype=self.dtype,
                kernel_init=_glorot,
                name=f"conv{number}",
            )
            x = layers.stage(nn.leaky_relu(self._apply(conv, train)(x), _SLOPE))
            endpoints[f"stage{number}"] = x
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = x.reshape(x.shape[0], -1)
        # Without dropout, which only training has.
        features = endpoints[f"stage{len(self.features)}"].astype(jnp.float32)
        endpoints["embedding"] = features.reshape(x.shape[0], -1)
        logit = nn.Dense(1, dtype=self.dtype, kernel_init=_glorot, name="logit")
        return self._apply(logit, train)(x)[:, 0].astype(jnp.float32), endpoints

    def _apply(self, layer: nn.Module, train: bool) -> Callable[[Array], Array]:
        if not self.spectral_norm:
            return layer
        return functools.partial(nn.SpectralNorm(layer), update_stats=train)


def _norm(name: str) -> layers.BatchNorm:
    return layers.BatchNorm(momentum=0.99, epsilon=1e-3, name=name)  # as Keras
