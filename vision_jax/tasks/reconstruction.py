"""Reconstruction: an autoencoder learns a code from which its image can be decoded."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Key

from vision_jax.data.loader import Batch
from vision_jax.losses.reconstruction import pixel_mean, standard_normal_divergence
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.base import Metrics, Needs, TrainState, accumulate, masked_sum, rematerialize

Loss = Literal["binary_cross_entropy", "mean_squared_error"]
Images = Float[Array, "batch height width channels"]

# What a key is folded with, one number per use of it.
_INIT, _LATENT = 0, 1


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """An autoencoder's state, loss and steps.

    An image's loss is its mean over pixels and channels; with a variational model the divergence
    of the code from the prior, over as many, is added with the weight `beta`. With binary
    cross-entropy and a beta of 1 that is the negative evidence lower bound per pixel (Kingma and
    Welling, 2014); other weights are those of Higgins et al., "beta-VAE", 2017.

    See `Task` for how its steps are run.

    Attributes:
        model: a linen module that returns (images in [0, 1], endpoints) with the endpoints
            `logits` and `embedding` and, if it is variational, `log_variance`; its method
            `decode` turns codes into logits, its `latent_size`, if it is variational, is the
            code's width.
        optimizer: the update rule.
        loss: between pixels.
        beta: weight of the divergence.
        accumulate: parts of a device's batch that are computed one after the other; their
            gradients add up to the whole batch's, in less memory. None: what suits the platform.
        ema: decay of the moving average of the weights that evaluation takes, see
            `TrainState.averaged`; 0 for none.
        remat: whether the backward pass computes again what lies within the network's stages,
            see `rematerialize`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    loss: Loss = "binary_cross_entropy"
    beta: float = 1.0
    accumulate: int | None = None
    ema: float = 0.0
    remat: bool = False

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = ("loss", "min")
    needs: ClassVar[Needs] = Needs()

    @property
    def latent_size(self) -> int | None:
        """Width of a variational model's code, of which `decode` makes new images; else None."""
        return getattr(self.model, "latent_size", None)

    def init(self, key: Key[Array, ""], batch: Batch) -> TrainState:
        """The state before the first step.

        Args:
            key: the run's base key.
            batch: any batch, for the shape of its `image`.

        Returns:
            A state at step 0.

        Raises:
            ValueError: the network does not take images of this shape.
        """
        variables = self.model.init(jax.random.fold_in(key, _INIT), batch["image"][:1])
        state = TrainState.create(key, variables, self.optimizer)
        return state.replace(average=state.variables if self.ema else {})

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Moves the weights along one batch's gradient.

        Args:
            state: the state before.
            batch: `image` (B, H, W, C) float32 in [0, 1] and `mask` (B,).

        Returns:
            The state after, and the metrics of `eval_step` and of `TrainState.apply_gradients`.
        """
        key = jax.random.fold_in(state.step_key(), _LATENT)
        count = jax.lax.psum(jnp.sum(batch["mask"].astype(jnp.float32)), AXIS)

        def gradients(stats: Any, part: Batch, place: Array) -> tuple[Any, Metrics, Any]:
            images, mask = part["image"], part["mask"]
            rngs = {"latent": jax.random.fold_in(key, place)}

            def loss_fn(params: Any) -> tuple[Array, tuple[dict[str, Array], Any]]:
                (outputs, endpoints), updates = self.model.apply(
                    {"params": params, "batch_stats": stats},
                    images,
                    train=True,
                    rngs=rngs,
                    mutable=["batch_stats"],
                )
                figures = self._figures(images, outputs, endpoints)
                mean = jnp.sum(jnp.where(mask, figures["loss"], jnp.float32(0))) / count
                return mean, (figures, updates.get("batch_stats", {}))

            grads, (figures, new) = jax.grad(rematerialize(loss_fn, self.remat), has_aux=True)(
                state.params
            )
            sums = {name: masked_sum(values, mask) for name, values in figures.items()}
            return grads, sums, new

        grads, metrics, stats = accumulate(gradients, state.stats, batch, self.accumulate)
        state, moved = state.apply_gradients(grads, stats, self.optimizer)
        return state.averaged(state.variables, self.ema), metrics | moved

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Measures the reconstructions of a batch.

        Args:
            state: the state.
            batch: as for `train_step`; masked examples do not count.

        Returns:
            `loss`, `mean_squared_error` and, with a variational model, `divergence` in nats per
            image. Its reconstructions are those of the mean code here, of a sample in training.
        """
        outputs, endpoints = self._apply(state, batch["image"])
        figures = self._figures(batch["image"], outputs, endpoints)
        return {name: masked_sum(values, batch["mask"]) for name, values in figures.items()}

    def reconstruct(self, state: TrainState, images: Images) -> Images:
        """Encodes and decodes images.

        Args:
            state: the state.
            images: (B, H, W, C) in [0, 1].

        Returns:
            (B, H, W, C) in [0, 1].
        """
        return self._apply(state, images)[0]

    def embed(self, state: TrainState, images: Images) -> Float[Array, "batch code"]:
        """The codes of images, which search compares.

        Args:
            state: the state.
            images: (B, H, W, C) in [0, 1].

        Returns:
            (B, D); a variational model's mean.
        """
        return self._apply(state, images)[1]["embedding"]

    def decode(self, state: TrainState, codes: Float[Array, "batch code"]) -> Images:
        """The images of codes; a variational model makes new ones of standard normal codes.

        Args:
            state: the state.
            codes: (B, D).

        Returns:
            (B, H, W, C) in [0, 1].
        """
        logits: Any = self.model.apply(state.average or state.variables, codes, method="decode")
        return nn.sigmoid(logits)

    def _apply(self, state: TrainState, images: Images) -> Any:
        return self.model.apply(state.average or state.variables, images, train=False)

    def _figures(
        self, images: Images, outputs: Images, endpoints: dict[str, Array]
    ) -> dict[str, Float[Array, " batch"]]:
        """Each image's figures."""
        squared = pixel_mean(jnp.square(outputs - images))
        loss = squared
        if self.loss == "binary_cross_entropy":
            loss = pixel_mean(optax.sigmoid_binary_cross_entropy(endpoints["logits"], images))
        if "log_variance" not in endpoints:
            return {"loss": loss, "mean_squared_error": squared}
        divergence = standard_normal_divergence(endpoints["embedding"], endpoints["log_variance"])
        pixels = math.prod(images.shape[1:])
        return {
            "loss": loss + divergence * jnp.float32(self.beta / pixels),
            "mean_squared_error": squared,
            "divergence": divergence,
        }
