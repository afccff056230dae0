"""Adversarial training of a generator and a discriminator (GAN)."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Key

from vision_jax.augment.differentiable import diff_augment
from vision_jax.augment.draws import per_example_keys
from vision_jax.config import AdversarialLoss, DifferentiableAugmentation, TrainGAN
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Batch
from vision_jax.losses.adversarial import Logits, discriminator_losses, generator_losses
from vision_jax.models import build_model, layers
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.accumulation import accumulate, rematerialize
from vision_jax.tasks.base import Needs, masked_sum
from vision_jax.tasks.state import Metrics, TrainState

Images = Float[Array, "batch height width channels"]
Latents = Float[Array, "batch latent"]

# What keys are folded with, one number per use.
_INIT, _LATENT, _DROPOUT, _AUGMENT = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """A generative adversarial network (Goodfellow et al., 2014).

    One step trains both networks from the same weights: the discriminator on a real and a generated
    batch, the generator through the discriminator's logits for the latter. See `Task` for how steps
    are run.

    Callers see images in [0, 1]; the networks see them in [-1, 1].

    Attributes:
        generator: a linen module; latents (B, `generator.latent_size`) to (images in [-1, 1],
            endpoints).
        discriminator: a linen module; images in [-1, 1] to (logits, endpoints).
        optimizer: one optimizer for the parameters of both networks.
        loss: adversarial loss, see `generator_losses` and `discriminator_losses`.
        r1: weight of the gradient penalty r1/2 E‖∇D(x)‖² on real images (Mescheder et al., 2018);
            0 for none.
        ema: decay of the exponential moving average of the generator's weights, which `decode`
            uses, see `TrainState.averaged`; 0 for none.
        augmentations: random transforms of the discriminator's input, see `diff_augment`.
        accumulate: number of parts of a device's batch, computed one after the other to save
            memory; their gradients add up to the whole batch's. Batch norm sees one part at a time.
        remat: recompute activations within the networks' stages in the backward pass, see
            `rematerialize`.
        statistics_per_device: batch norm in training sees the images of one device, see
            `layers.statistics_per_device`.
    """

    generator: nn.Module
    discriminator: nn.Module
    optimizer: optax.GradientTransformation
    loss: AdversarialLoss = "non_saturating"
    r1: float = 0.0
    ema: float = 0.999
    augmentations: Sequence[DifferentiableAugmentation] = ()
    accumulate: int | None = None
    remat: bool = False
    statistics_per_device: bool = False

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = None
    needs: ClassVar[Needs] = Needs()

    @classmethod
    def from_config(
        cls, config: TrainGAN, info: DataInfo, optimizer: optax.GradientTransformation
    ) -> "Adversarial":
        """Build the task that a config describes."""
        model = config.model
        return cls(
            build_model(
                "dcgan_generator",
                image_shape=info.image_shape,
                features=model.generator,
                latent_size=model.latent_size,
                dtype=config.precision,
            ),
            build_model(
                "dcgan_discriminator",
                features=model.discriminator,
                dropout=model.dropout,
                spectral_norm=model.spectral_norm,
                dtype=config.precision,
            ),
            optimizer,
            model.loss,
            model.r1,
            model.ema,
            model.augmentations,
            accumulate=config.optimizer.accumulate,
            remat=config.remat,
            statistics_per_device=config.batch_statistics == "device",
        )

    @property
    def latent_size(self) -> int:
        """Dimension of the latent vectors."""
        return self.generator.latent_size

    def init(self, key: Key[Array, ""], batch: Batch) -> TrainState:
        """Initialise the state.

        Args:
            key: the run's base key.
            batch: any batch; only the shape of its `image` matters.

        Returns:
            The state at step 0.

        Raises:
            ValueError: the generator's images have another shape.
        """
        keys = jax.random.split(jax.random.fold_in(key, _INIT))
        generator = self.generator.init(keys[0], jnp.zeros((1, self.latent_size)))
        discriminator = self.discriminator.init(keys[1], batch["image"][:1])
        made = jax.eval_shape(lambda: self._generate(generator, jnp.zeros((1, self.latent_size))))
        if made.shape[1:] != batch["image"].shape[1:]:
            raise ValueError(
                f"images are {batch['image'].shape[1:]}; the generator makes {made.shape[1:]}"
            )
        both = {"generator": generator, "discriminator": discriminator}
        variables = {
            kind: {name: values.get(kind, {}) for name, values in both.items()}
            for kind in ("params", "batch_stats")
        }
        state = TrainState.create(key, variables, self.optimizer)
        return state.replace(average=_variables(state, "generator") if self.ema else {})

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Update the weights of both networks.

        Args:
            state: the current state.
            batch: `image` (B, H, W, C) float32 in [0, 1] and `mask` (B,).

        Returns:
            The next state; and the metrics of `eval_step`, those of `TrainState.apply_gradients`
            and, with a penalty, `r1`.
        """
        count = jax.lax.psum(jnp.sum(batch["mask"].astype(jnp.float32)), AXIS)

        def gradients(stats: Any, part: Batch, place: Array) -> tuple[Any, Metrics, Any]:
            return self._gradients(state.replace(stats=stats), part, place, count)

        with layers.statistics_per_device(self.statistics_per_device):
            grads, metrics, stats = accumulate(gradients, state.stats, batch, self.accumulate)
        state, of_update = state.apply_gradients(grads, stats, self.optimizer)
        return state.averaged(_variables(state, "generator"), self.ema), metrics | of_update

    def _gradients(
        self, state: TrainState, batch: Batch, place: Array, count: Array
    ) -> tuple[Any, Metrics, Any]:
        """Compute gradients, metrics and batch statistics of one part of a batch.

        Args:
            state: the current state.
            batch: the part.
            place: index of the part among those of all devices.
            count: images in the whole batch, over all devices.
        """
        mask = batch["mask"]
        weight = mask.astype(jnp.float32) / count
        discriminate_real, discriminate_fake = self._discriminators(state, place, len(mask))

        # Each network runs forward once on each batch. The logits of the generated images are
        # differentiated twice: by the discriminator's weights, and by the images.
        latents = self._latents(state, place, len(mask))
        fake, generator_vjp, generator_stats = jax.vjp(
            rematerialize(partial(self._train_generator, state, latents), self.remat),
            state.params["generator"],
            has_aux=True,
        )
        fake_logits, discriminator_vjp = jax.vjp(
            discriminate_fake, state.params["discriminator"], fake
        )
        real_loss = partial(self._real_loss, discriminate_real, to_signed(batch["image"]), weight)
        real_grads, (real_logits, penalty, discriminator_stats) = jax.grad(real_loss, has_aux=True)(
            state.params["discriminator"]
        )
        fake_grads, _ = discriminator_vjp(
            weight
            * _derivatives(lambda x: discriminator_losses(self.loss, x, real=False), fake_logits)
        )
        _, image_grads = discriminator_vjp(
            weight * _derivatives(partial(generator_losses, self.loss), fake_logits)
        )
        (generator_grads,) = generator_vjp(image_grads)

        grads = {
            "generator": generator_grads,
            "discriminator": jax.tree.map(jnp.add, real_grads, fake_grads),
        }
        stats = {"generator": generator_stats, "discriminator": discriminator_stats}
        metrics = self._metrics(real_logits, fake_logits, mask)
        return grads, metrics | ({"r1": masked_sum(penalty, mask)} if self.r1 else {}), stats

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Measure the losses and the discriminator's accuracy on real and generated images.

        A batch is compared with as many generated images, the same for every batch.

        Args:
            state: the current state.
            batch: as for `train_step`; masked examples do not count.

        Returns:
            `loss` (the sum of the next two), `discriminator_loss`, `generator_loss`,
            `real_accuracy` and `fake_accuracy`, the shares that the discriminator gets right.
        """
        mask = batch["mask"]
        fake = self._generate(
            _variables(state, "generator"),
            self._latents(state, jax.lax.axis_index(AXIS), len(mask)),
        )
        variables = _variables(state, "discriminator")
        discriminate = partial(self.discriminator.apply, variables, train=False)
        real_logits, fake_logits = discriminate(to_signed(batch["image"]))[0], discriminate(fake)[0]
        return self._metrics(real_logits, fake_logits, mask)

    def decode(self, state: TrainState, latents: Latents) -> Images:
        """Generate images, with the averaged weights if there are any.

        Args:
            state: the current state.
            latents: (B, latent_size) from a standard normal.

        Returns:
            (B, H, W, C) in [0, 1].
        """
        variables = state.average if self.ema else _variables(state, "generator")
        return (self._generate(variables, latents) + 1) * 0.5

    def embed(self, state: TrainState, images: Images) -> Float[Array, "batch features"]:
        """Embed images as the discriminator's features.

        Args:
            state: the current state.
            images: (B, H, W, C) in [0, 1].

        Returns:
            (B, D) its `embedding` endpoint.
        """
        return self.apply(state, images)[1]["embedding"]

    def apply(self, state: TrainState, images: Images) -> tuple[Logits, dict[str, Array]]:
        """Run the discriminator for evaluation.

        Args:
            state: the current state.
            images: (B, H, W, C) in [0, 1].

        Returns:
            Its logits (B,) and endpoints.
        """
        variables = _variables(state, "discriminator")
        returned: Any = self.discriminator.apply(variables, to_signed(images), train=False)
        return returned

    def _latents(self, state: TrainState, place: Array, count: int) -> Latents:
        """Draw the latents of one part of the step's batch, for any number of devices alike."""
        keys = _example_keys(state, _LATENT, place, count)
        return jax.vmap(lambda key: jax.random.normal(key, (self.latent_size,)))(keys)

    def _generate(self, variables: Any, latents: Latents) -> Images:
        return self.generator.apply(variables, latents, train=False)[0]

    def _train_generator(
        self, state: TrainState, latents: Latents, params: Any
    ) -> tuple[Images, Any]:
        """Generate images in training, and update the batch statistics."""
        (images, _), updates = self.generator.apply(
            {"params": params, "batch_stats": state.stats["generator"]},
            latents,
            train=True,
            mutable=["batch_stats"],
        )
        return images, updates.get("batch_stats", {})

    def _discriminators(
        self, state: TrainState, place: Array, count: int
    ) -> tuple[Callable[[Any, Images], tuple[Logits, Any]], Callable[[Any, Images], Logits]]:
        """Make the discriminator's training pass for real and for generated images."""
        dropout = jax.random.fold_in(state.step_key(), _DROPOUT)
        dropout = jax.random.fold_in(dropout, place)
        keys = _example_keys(state, _AUGMENT, place, count)

        def discriminate(number: int, params: Any, images: Images) -> tuple[Logits, Any]:
            drawn = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
            (logits, _), updates = self.discriminator.apply(
                {"params": params, "batch_stats": state.stats["discriminator"]},
                diff_augment(drawn, images, self.augmentations),
                train=True,
                rngs={"dropout": jax.random.fold_in(dropout, number)},
                mutable=["batch_stats"],
            )
            return logits, updates.get("batch_stats", {})

        return (
            rematerialize(partial(discriminate, 0), self.remat),
            rematerialize(lambda params, images: discriminate(1, params, images)[0], self.remat),
        )

    def _real_loss(
        self,
        discriminate: Callable[[Any, Images], tuple[Logits, Any]],
        images: Images,
        weight: Float[Array, " batch"],
        params: Any,
    ) -> tuple[Float[Array, ""], tuple[Logits, Logits, Any]]:
        """Compute the discriminator's loss on real images, its logits, penalties and statistics."""
        if self.r1:
            image_grads, (logits, stats) = jax.grad(
                lambda x: _sum_and_aux(*discriminate(params, x)), has_aux=True
            )(images)
            penalty = jnp.sum(jnp.square(image_grads), (1, 2, 3))
        else:
            logits, stats = discriminate(params, images)
            penalty = jnp.zeros_like(logits)
        losses = discriminator_losses(self.loss, logits, real=True)
        loss = jnp.sum(weight * (losses + penalty * jnp.float32(self.r1 / 2)))
        return loss, (logits, penalty, stats)

    def _metrics(self, real: Logits, fake: Logits, mask: Array) -> Metrics:
        discriminator = discriminator_losses(self.loss, real, real=True)
        discriminator = discriminator + discriminator_losses(self.loss, fake, real=False)
        generator = generator_losses(self.loss, fake)
        return {
            "loss": masked_sum(discriminator + generator, mask),
            "discriminator_loss": masked_sum(discriminator, mask),
            "generator_loss": masked_sum(generator, mask),
            "real_accuracy": masked_sum(real > 0, mask),
            "fake_accuracy": masked_sum(fake < 0, mask),
        }


def to_signed(images: Images) -> Images:
    """Scale images from [0, 1] to [-1, 1]."""
    return images * 2 - 1


def _variables(state: TrainState, name: Literal["generator", "discriminator"]) -> dict[str, Any]:
    """Return one network's variables."""
    return {"params": state.params[name], "batch_stats": state.stats[name]}


def _example_keys(state: TrainState, use: int, place: Array, count: int) -> Key[Array, " count"]:
    return per_example_keys(jax.random.fold_in(state.step_key(), use), place * count, count)


def _derivatives(losses: Callable[[Logits], Logits], logits: Logits) -> Logits:
    """Differentiate each loss by its logit."""
    return jax.grad(lambda x: jnp.sum(losses(x)))(logits)


def _sum_and_aux(logits: Logits, stats: Any) -> tuple[Float[Array, ""], tuple[Logits, Any]]:
    return jnp.sum(logits), (logits, stats)
