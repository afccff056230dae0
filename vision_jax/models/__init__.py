"""Networks: linen modules that return `(output, endpoints)`."""

from vision_jax.models.autoencoder import (
    Autoencoder,
    ConvAutoencoder,
    DenseAutoencoder,
    VariationalAutoencoder,
)
from vision_jax.models.cnn import CNN
from vision_jax.models.gan import Discriminator, Generator

__all__ = [
    "CNN",
    "Autoencoder",
    "ConvAutoencoder",
    "DenseAutoencoder",
    "Discriminator",
    "Generator",
    "VariationalAutoencoder",
]
