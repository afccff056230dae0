"""Reconstruction: an autoencoder learns a code from which its image can be decoded."""

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from vision_jax.config import PixelLoss, TrainAutoencoder
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Batch
from vision_jax.losses.reconstruction import pixel_losses, standard_normal_divergence
from vision_jax.models import build_model
from vision_jax.tasks.base import ModelTask
from vision_jax.tasks.state import TrainState

Images = Float[Array, "batch height width channels"]


@dataclasses.dataclass(frozen=True)
class Reconstruction(ModelTask):
    """An autoencoder's loss, and its way there and back.

    Attributes:
        model: see `ModelTask`; its output are images in [0, 1], its endpoints `logits` and
            `embedding`, the code; its method `decode` turns codes into logits.
        loss: the pixel reconstruction loss, see `pixel_losses`.
    """

    loss: PixelLoss = "binary_cross_entropy"

    streams: ClassVar[tuple[str, ...]] = ("latent", "dropout")

    @classmethod
    def from_config(
        cls, config: TrainAutoencoder, info: DataInfo, optimizer: optax.GradientTransformation
    ) -> "Reconstruction":
        """Build the task that a config describes."""
        given = {"hidden": config.model.hidden, "code": config.model.code}
        model = build_model(
            f"{config.model.kind}_autoencoder",
            image_shape=info.image_shape,
            dtype=config.precision,
            **{option: value for option, value in given.items() if value is not None},
        )
        arguments = (model, optimizer, config.model.loss)
        if config.model.kind == "variational":
            return VariationalReconstruction(
                *arguments, beta=config.model.beta, **config.step_options
            )
        return cls(*arguments, **config.step_options)

    def examples(
        self, output: Images, endpoints: dict[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " batch"]]:
        """Compare each image with its reconstruction.

        Args:
            output: (B, H, W, C) reconstructions.
            endpoints: `logits`, whose sigmoids they are.
            batch: `image` (B, H, W, C) in [0, 1].

        Returns:
            `loss` and `mean_squared_error`, means over pixels and channels, (B,) each.
        """
        images = batch["image"]
        squared = pixel_losses("mean_squared_error", images, output, endpoints["logits"])
        losses = pixel_losses(self.loss, images, output, endpoints["logits"])
        return {"loss": losses, "mean_squared_error": squared}

    def reconstruct(self, state: TrainState, images: Images) -> Images:
        """Encode and decode images.

        Args:
            state: the state.
            images: (B, H, W, C) in [0, 1].

        Returns:
            (B, H, W, C) in [0, 1].
        """
        return self.apply(state, images)[0]

    def decode(self, state: TrainState, codes: Float[Array, "batch code"]) -> Images:
        """Turn codes into images.

        Args:
            state: the state.
            codes: (B, D).

        Returns:
            (B, H, W, C) in [0, 1].
        """
        logits: Any = self.model.apply(state.average or state.variables, codes, method="decode")
        return nn.sigmoid(logits)


@dataclasses.dataclass(frozen=True)
class VariationalReconstruction(Reconstruction):
    """An autoencoder with a Gaussian code, which makes new images too.

    To an image's loss, its mean over pixels and channels, is added the divergence of its code from
    the prior over as many, with the weight `beta`. With binary cross-entropy and a beta of 1 that
    is the negative evidence lower bound per pixel (Kingma and Welling, 2014); other weights are
    those of Higgins et al., "beta-VAE", 2017. Training reconstructs from a sample of the code,
    evaluation from its mean, which is the embedding.

    Attributes:
        model: as for `Reconstruction`; with the endpoint `log_variance`, and the code's width as
            `latent_size`.
        beta: weight of the divergence, at least 0.
    """

    beta: float = 1.0

    @property
    def latent_size(self) -> int:
        """Width of the code, of which `decode` makes new images."""
        return self.model.latent_size

    def examples(
        self, output: Images, endpoints: dict[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " batch"]]:
        """Compare each image with its reconstruction, and its code with the prior.

        Args:
            output: (B, H, W, C) reconstructions.
            endpoints: `logits`, `embedding` (the code's mean) and `log_variance`.
            batch: `image` (B, H, W, C) in [0, 1].

        Returns:
            `loss`, `mean_squared_error`, and `divergence` in nats, (B,) each.
        """
        rows = super().examples(output, endpoints, batch)
        divergence = standard_normal_divergence(endpoints["embedding"], endpoints["log_variance"])
        weight = jnp.float32(self.beta / math.prod(batch["image"].shape[1:]))
        return rows | {"loss": rows["loss"] + divergence * weight, "divergence": divergence}
