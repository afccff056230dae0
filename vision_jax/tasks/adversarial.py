"""Adversarial training: a generator learns to make images that a discriminator takes for real."""

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
from vision_jax.models import build_model
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.accumulation import accumulate, rematerialize
from vision_jax.tasks.base import Needs, masked_sum
from vision_jax.tasks.state import Metrics, TrainState

Images = Float[Array, "batch height width channels"]
Latents = Float[Array, "batch latent"]

# What a key is folded with, one number per use of it.
_INIT, _LATENT, _DROPOUT, _AUGMENT = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """A GAN's state, losses and steps.

    Goodfellow et al., "Generative adversarial nets", 2014: the discriminator is trained on a real
    and on a generated batch, the generator on the discriminator's opinion of the latter, both in
    one step from the same weights. See `Task` for how the steps are run.

    Images are in [0, 1] for the caller and in [-1, 1] between the networks.

    Attributes:
        generator: a linen module that turns latents (B, `generator.latent_size`) into (images in
            [-1, 1], endpoints).
        discriminator: a linen module that turns images in [-1, 1] into (logits, endpoints).
        optimizer: the update rule of both networks, which are one tree of parameters to it.
        loss: the generator's and discriminator's losses, see `generator_losses` and
            `discriminator_losses`.
        r1: weight of the penalty r1/2 E‖∇D(x)‖² on real images (Mescheder et al., 2018); 0 for
            none.
        ema: decay of the generator's exponential moving average, by whose weights images are
            made, see `TrainState.averaged`; 0 for none.
        augmentations: random transforms of what the discriminator sees; see `diff_augment`.
        accumulate: parts of a device's batch that are computed one after the other; their
            gradients add up to the whole batch's, in less memory. Batch norm sees a part at a time.
        remat: whether the backward pass computes again what lies within the network's stages,
            see `rematerialize`.
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
        )

    @property
    def latent_size(self) -> int:
        """Width of the latent vectors."""
        return self.generator.latent_size

    def init(self, key: Key[Array, ""], batch: Batch) -> TrainState:
        """The state before the first step.

        Args:
            key: the run's base key.
            batch: any batch, for the shape of its `image`.

        Returns:
            A state at step 0.

        Raises:
            ValueError: the generator makes images of another shape.
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
        return state.replace(average=_part(state, "generator") if self.ema else {})

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Moves the weights of both networks.

        Args:
            state: the state before.
            batch: `image` (B, H, W, C) float32 in [0, 1] and `mask` (B,).

        Returns:
            The state after, and the metrics of `eval_step` and of `TrainState.apply_gradients`;
            the penalty as `r1`, if there is one.
        """
        count = jax.lax.psum(jnp.sum(batch["mask"].astype(jnp.float32)), AXIS)

        def gradients(stats: Any, part: Batch, place: Array) -> tuple[Any, Metrics, Any]:
            return self._gradients(state.replace(stats=stats), part, place, count)

        grads, metrics, stats = accumulate(gradients, state.stats, batch, self.accumulate)
        state, moved = state.apply_gradients(grads, stats, self.optimizer)
        return state.averaged(_part(state, "generator"), self.ema), metrics | moved

    def _gradients(
        self, state: TrainState, batch: Batch, place: Array, count: Array
    ) -> tuple[Any, Metrics, Any]:
        """Gradients, metrics and new statistics of a part of a batch of `count` images."""
        mask = batch["mask"]
        weight = mask.astype(jnp.float32) / count
        judge_real, judge_fake = self._judges(state, place, len(mask))

        # Each network runs forward once on each batch. The discriminator's opinion of the
        # generated images is pulled back twice: into its weights, and into the images.
        latents = self._latents(state, place, len(mask))
        fake, pull_images, generator_stats = jax.vjp(
            rematerialize(partial(self._train_generator, state, latents), self.remat),
            state.params["generator"],
            has_aux=True,
        )
        fake_logits, pull_logits = jax.vjp(judge_fake, state.params["discriminator"], fake)
        real_grads, (real_logits, penalty, discriminator_stats) = jax.grad(
            partial(self._real_loss, judge_real, to_signed(batch["image"]), weight), has_aux=True
        )(state.params["discriminator"])
        fake_grads, _ = pull_logits(
            weight * _slope(lambda x: discriminator_losses(self.loss, x, real=False), fake_logits)
        )
        _, toward_images = pull_logits(
            weight * _slope(partial(generator_losses, self.loss), fake_logits)
        )
        (generator_grads,) = pull_images(toward_images)

        grads = {
            "generator": generator_grads,
            "discriminator": jax.tree.map(jnp.add, real_grads, fake_grads),
        }
        stats = {"generator": generator_stats, "discriminator": discriminator_stats}
        metrics = self._metrics(real_logits, fake_logits, mask)
        return grads, metrics | ({"r1": masked_sum(penalty, mask)} if self.r1 else {}), stats

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Lets the discriminator judge a batch and as many generated images.

        The generated images are the same for every batch of an evaluation.

        Args:
            state: the state.
            batch: as for `train_step`; masked examples do not count.

        Returns:
            `loss` (the sum of the next two), `discriminator_loss`, `generator_loss`,
            `real_accuracy` and `fake_accuracy`, the shares that the discriminator gets right.
        """
        mask = batch["mask"]
        fake = self._generate(
            _part(state, "generator"),
            self._latents(state, jax.lax.axis_index(AXIS), len(mask)),
        )
        judge = partial(self.discriminator.apply, _part(state, "discriminator"), train=False)
        return self._metrics(judge(to_signed(batch["image"]))[0], judge(fake)[0], mask)

    def decode(self, state: TrainState, latents: Latents) -> Images:
        """Generates images, by the averaged weights if there are any.

        Args:
            state: the state.
            latents: (B, latent_size) from a standard normal.

        Returns:
            (B, H, W, C) in [0, 1].
        """
        variables = state.average if self.ema else _part(state, "generator")
        return (self._generate(variables, latents) + 1) * 0.5

    def embed(self, state: TrainState, images: Images) -> Float[Array, "batch features"]:
        """The discriminator's features, which search compares.

        Args:
            state: the state.
            images: (B, H, W, C) in [0, 1].

        Returns:
            (B, D) the discriminator's `embedding` endpoint.
        """
        variables = _part(state, "discriminator")
        return self.discriminator.apply(variables, to_signed(images), train=False)[1]["embedding"]

    def _latents(self, state: TrainState, place: Array, count: int) -> Latents:
        """The latents of a part of the step's batch, whatever the number of devices."""
        keys = _example_keys(state, _LATENT, place, count)
        return jax.vmap(lambda key: jax.random.normal(key, (self.latent_size,)))(keys)

    def _generate(self, variables: Any, latents: Latents) -> Images:
        return self.generator.apply(variables, latents, train=False)[0]

    def _train_generator(
        self, state: TrainState, latents: Latents, params: Any
    ) -> tuple[Images, Any]:
        """The generated images, and the new batch statistics."""
        (images, _), updates = self.generator.apply(
            {"params": params, "batch_stats": state.stats["generator"]},
            latents,
            train=True,
            mutable=["batch_stats"],
        )
        return images, updates.get("batch_stats", {})

    def _judges(
        self, state: TrainState, place: Array, count: int
    ) -> tuple[Callable[[Any, Images], tuple[Logits, Any]], Callable[[Any, Images], Logits]]:
        """The discriminator in training, for real and for generated images."""
        dropout = jax.random.fold_in(state.step_key(), _DROPOUT)
        dropout = jax.random.fold_in(dropout, place)
        keys = _example_keys(state, _AUGMENT, place, count)

        def judge(number: int, params: Any, images: Images) -> tuple[Logits, Any]:
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
            rematerialize(partial(judge, 0), self.remat),
            rematerialize(lambda params, images: judge(1, params, images)[0], self.remat),
        )

    def _real_loss(
        self,
        judge: Callable[[Any, Images], tuple[Logits, Any]],
        images: Images,
        weight: Float[Array, " batch"],
        params: Any,
    ) -> tuple[Float[Array, ""], tuple[Logits, Logits, Any]]:
        """The discriminator's loss on real images; its logits, penalties and statistics."""
        if self.r1:
            pull, (logits, stats) = jax.grad(
                lambda x: _sum_and_aux(*judge(params, x)), has_aux=True
            )(images)
            penalty = jnp.sum(jnp.square(pull), (1, 2, 3))
        else:
            logits, stats = judge(params, images)
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
    """Images in [0, 1] as images in [-1, 1]."""
    return images * 2 - 1


def _part(state: TrainState, name: Literal["generator", "discriminator"]) -> dict[str, Any]:
    """One network's variables."""
    return {"params": state.params[name], "batch_stats": state.stats[name]}


def _example_keys(state: TrainState, use: int, place: Array, count: int) -> Key[Array, " count"]:
    return per_example_keys(jax.random.fold_in(state.step_key(), use), place * count, count)


def _slope(losses: Callable[[Logits], Logits], logits: Logits) -> Logits:
    """Each loss's derivative by its logit."""
    return jax.grad(lambda x: jnp.sum(losses(x)))(logits)


def _sum_and_aux(logits: Logits, stats: Any) -> tuple[Float[Array, ""], tuple[Logits, Any]]:
    return jnp.sum(logits), (logits, stats)
