"""Autoencoders: images to a code and back.

All three are called with images (B, H, W, C). They return the output (B, H, W, C) in [0, 1] and the
endpoints `logits`, whose sigmoid is the output, and `embedding` (B, D), the code. The methods
`encode` and `decode` are the two halves, with parameters under `encoder` and `decoder`.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers
from vision_jax.ops import upsample_nearest

Images = Float[Array, "batch height width channels"]
Codes = Float[Array, "batch code"]
Maps = Float[Array, "batch _ _ _"]

_glorot = jax.nn.initializers.glorot_uniform()


class Autoencoder(nn.Module):
    """The base of the three kinds: encode, then decode.

    Attributes:
        image_shape: (height, width, channels).
        dtype: Type to compute in, such as bfloat16. Parameters, logits and codes stay float32.
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    dtype: Dtype | None = None

    def __call__(
        self, images: Images, train: bool = False
    ) -> tuple[Images, dict[str, Float[Array, "batch ..."]]]:
        """Encode and decode images; see the module."""
        code = self.encode(images)
        logits = self.decode(code)
        return nn.sigmoid(logits), {"logits": logits, "embedding": code}

    def encode(self, images: Images) -> Codes:
        """Encode images.

        Args:
            images: (B, H, W, C) in [0, 1].

        Returns:
            (B, D) codes.
        """
        raise NotImplementedError

    def decode(self, codes: Codes) -> Images:
        """Decode codes.

        Args:
            codes: (B, D).

        Returns:
            (B, H, W, C) logits; their sigmoid is the image.
        """
        raise NotImplementedError

    def _check(self, images: Images) -> None:
        if images.shape[1:] != tuple(self.image_shape):
            raise ValueError(
                f"images are {images.shape[1:]}; the autoencoder needs "
                f"image_shape={tuple(self.image_shape)}"
            )


class ConvAutoencoder(Autoencoder):
    """3x3 convolutions with max-pooling down to a code, and with nearest upsampling back.

    The defaults map 28x28x1 to a 7x7x8 code (392 values, at least 0) with 3,801 parameters. The
    endpoints also hold `features` (B, h, w, code), the code as a map.

    Attributes:
        image_shape: (height, width, channels); each side a multiple of 2 to the power of
            `len(hidden)`.
        dtype: Type to compute in, such as bfloat16. Parameters, logits and codes stay float32.
        hidden: Channels of the encoder's convolutions, each followed by 2x2 max-pooling. The
            decoder has them in reverse, each followed by upsampling.
        code: Channels of the code.

    Raises:
        ValueError: If the sides do not halve evenly, or images have another shape.
    """

    hidden: Sequence[int] = (16, 8)
    code: int = 8

    def setup(self) -> None:
        """Build the two halves."""
        factor = 2 ** len(self.hidden)
        height, width, channels = self.image_shape
        if height % factor or width % factor:
            raise ValueError(
                f"images are {height}x{width}; {len(self.hidden)} stages need height and width "
                f"that are multiples of {factor}"
            )
        self.encoder = _ConvEncoder(self.hidden, self.code, self.dtype)
        self.decoder = _ConvDecoder(tuple(reversed(self.hidden)), channels, self.dtype)

    def __call__(
        self, images: Images, train: bool = False
    ) -> tuple[Images, dict[str, Float[Array, "batch ..."]]]:
        """Encode and decode images; see the class."""
        output, endpoints = super().__call__(images, train)
        return output, endpoints | {"features": self._to_map(endpoints["embedding"])}

    def encode(self, images: Images) -> Codes:
        """Encode images; see the base."""
        self._check(images)
        return self.encoder(images).reshape(images.shape[0], -1)

    def decode(self, codes: Codes) -> Images:
        """Decode codes to logits; see the base."""
        return self.decoder(self._to_map(codes))

    def _to_map(self, codes: Codes) -> Maps:
        height, width = (side // 2 ** len(self.hidden) for side in self.image_shape[:2])
        return codes.reshape(-1, height, width, self.code)


class DenseAutoencoder(Autoencoder):
    """Dense ReLU layers down to a linear code and back.

    The defaults are the 784-1000-500-250-30 network of Hinton and Salakhutdinov, "Reducing the
    dimensionality of data with neural networks", 2006, with ReLU in place of layer-wise
    pretraining.

    Attributes:
        image_shape: (height, width, channels).
        dtype: Type to compute in, such as bfloat16. Parameters, logits and codes stay float32.
        hidden: Widths of the encoder's layers; the decoder has them in reverse.
        code: Width of the code.

    Raises:
        ValueError: If images have another shape.
    """

    hidden: Sequence[int] = (1000, 500, 250)
    code: int = 30

    def setup(self) -> None:
        """Build the two halves."""
        self.encoder = _Dense((*self.hidden, self.code), self.dtype)
        self.decoder = _Dense((*reversed(self.hidden), math.prod(self.image_shape)), self.dtype)

    def encode(self, images: Images) -> Codes:
        """Encode images; see the base."""
        self._check(images)
        return self.encoder(images.reshape(images.shape[0], -1))

    def decode(self, codes: Codes) -> Images:
        """Decode codes to logits; see the base."""
        return self.decoder(codes).reshape(-1, *self.image_shape)


class VariationalAutoencoder(Autoencoder):
    """A Gaussian code with a standard normal prior, so that codes drawn from it decode to images.

    The endpoints also hold `log_variance` (B, D); `embedding` is the mean. Training decodes a
    sample of the code, drawn from the random stream `latent`; evaluation decodes the mean. The
    defaults are those of Kingma and Welling, "Auto-encoding variational Bayes", 2014, with ReLU.

    Attributes:
        image_shape: (height, width, channels).
        dtype: Type to compute in, such as bfloat16. Parameters, logits and codes stay float32.
        hidden: Widths of the encoder's layers; the decoder has them in reverse.
        code: Width of the code.

    Raises:
        ValueError: If images have another shape.
    """

    hidden: Sequence[int] = (500,)
    code: int = 20

    def setup(self) -> None:
        """Build the two halves."""
        self.encoder = _Dense((*self.hidden, 2 * self.code), self.dtype)
        self.decoder = _Dense((*reversed(self.hidden), math.prod(self.image_shape)), self.dtype)

    @property
    def latent_size(self) -> int:
        """Return the width of the code, which has a standard normal prior."""
        return self.code

    def __call__(
        self, images: Images, train: bool = False
    ) -> tuple[Images, dict[str, Float[Array, "batch ..."]]]:
        """Encode and decode images; see the class."""
        mean, log_variance = self._posterior(images)
        code = mean
        if train:
            noise = jax.random.normal(self.make_rng("latent"), mean.shape, mean.dtype)
            code = mean + jnp.exp(log_variance * 0.5) * noise
        logits = self.decode(code)
        endpoints = {"logits": logits, "embedding": mean, "log_variance": log_variance}
        return nn.sigmoid(logits), endpoints

    def encode(self, images: Images) -> Codes:
        """Encode images to their mean codes; see the base."""
        return self._posterior(images)[0]

    def decode(self, codes: Codes) -> Images:
        """Decode codes to logits; see the base."""
        return self.decoder(codes).reshape(-1, *self.image_shape)

    def _posterior(self, images: Images) -> tuple[Codes, Codes]:
        self._check(images)
        mean, log_variance = jnp.split(
            self.encoder(images.reshape(images.shape[0], -1)), 2, axis=-1
        )
        return mean, log_variance


class Encoder(nn.Module):
    """The encoder of an autoencoder with a dense output on its code: a classifier.

    Parameters of the encoder have the names that they have in the autoencoder, so that a classifier
    can start from one. Called with images (B, H, W, C) in [0, 1], it returns the logits
    (B, num_classes) and the endpoint `embedding` (B, D), the code; a variational one's is the mean.
    A convolutional one has the code as a map, `features` (B, h, w, code), too.

    Attributes:
        num_classes: Width of the output.
        kind: Which autoencoder's.
        hidden: See the autoencoder.
        code: See the autoencoder.
        mean: Mean to subtract from the images; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
        dtype: Type to compute in, such as bfloat16. Parameters, logits and codes stay float32.
    """

    num_classes: int
    kind: Literal["conv", "dense", "variational"]
    hidden: Sequence[int]
    code: int
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, images: Images, train: bool = False
    ) -> tuple[Float[Array, "batch classes"], dict[str, Float[Array, "batch ..."]]]:
        """Classify images; see the class."""
        del train
        x = layers.normalize(images, self.mean, self.std)
        endpoints: dict[str, Float[Array, "batch ..."]] = {}
        if self.kind == "conv":
            maps = _ConvEncoder(self.hidden, self.code, self.dtype, name="encoder")(x)
            endpoints["features"] = maps
            code = maps.reshape(x.shape[0], -1)
        else:
            width = self.code * (2 if self.kind == "variational" else 1)
            encoder = _Dense((*self.hidden, width), self.dtype, name="encoder")
            code = encoder(x.reshape(x.shape[0], -1))[:, : self.code]
        endpoints["embedding"] = code
        output = _dense(self.num_classes, "logits", self.dtype)(code)
        return output.astype(jnp.float32), endpoints


def conv_encoder(
    *, num_classes: int, hidden: Sequence[int] = (16, 8), code: int = 8, **options: Any
) -> Encoder:
    """Make a classifier of the encoder of a `ConvAutoencoder`; see `Encoder`."""
    return Encoder(num_classes, "conv", hidden, code, **options)


def dense_encoder(
    *, num_classes: int, hidden: Sequence[int] = (1000, 500, 250), code: int = 30, **options: Any
) -> Encoder:
    """Make a classifier of the encoder of a `DenseAutoencoder`; see `Encoder`."""
    return Encoder(num_classes, "dense", hidden, code, **options)


def variational_encoder(
    *, num_classes: int, hidden: Sequence[int] = (500,), code: int = 20, **options: Any
) -> Encoder:
    """Make a classifier of the encoder of a `VariationalAutoencoder`; see `Encoder`."""
    return Encoder(num_classes, "variational", hidden, code, **options)


class _ConvEncoder(nn.Module):
    hidden: Sequence[int]
    code: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        for number, features in enumerate(self.hidden, start=1):
            x = layers.stage(nn.relu(_conv(features, f"conv{number}", self.dtype, pool=2)(x)))
        return nn.relu(_conv(self.code, "code", self.dtype)(x)).astype(jnp.float32)


class _ConvDecoder(nn.Module):
    hidden: Sequence[int]
    channels: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        for number, features in enumerate(self.hidden, start=1):
            x = layers.stage(nn.relu(_conv(features, f"conv{number}", self.dtype)(x)))
            x = upsample_nearest(x)
        return _conv(self.channels, "logits", self.dtype)(x).astype(jnp.float32)


class _Dense(nn.Module):
    """Dense layers with ReLU between them."""

    widths: Sequence[int]
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Float[Array, "batch width"]) -> Float[Array, "batch out"]:
        *hidden, last = self.widths
        for number, width in enumerate(hidden, start=1):
            x = layers.stage(nn.relu(_dense(width, f"dense{number}", self.dtype)(x)))
        return _dense(last, "out", self.dtype)(x).astype(jnp.float32)


def _conv(features: int, name: str, dtype: Dtype | None, *, pool: int = 1) -> layers.Conv:
    return layers.Conv(features, pool=pool, dtype=dtype, kernel_init=_glorot, name=name)


def _dense(width: int, name: str, dtype: Dtype | None) -> nn.Dense:
    return nn.Dense(width, dtype=dtype, kernel_init=_glorot, name=name)
