"""The families of networks that can be trained: from a config and its data's facts to a task."""

import dataclasses
from functools import partial
from typing import Any

import jax
import optax

from vision_jax.augment.recipes import Augment, augment
from vision_jax.config import DataConfig, TrainAutoencoder, TrainCNN, TrainConfig, TrainGAN
from vision_jax.data.loader import Loader, blank_batch
from vision_jax.errors import InputError
from vision_jax.models import (
    CNN,
    Autoencoder,
    ConvAutoencoder,
    DenseAutoencoder,
    Discriminator,
    Generator,
    VariationalAutoencoder,
)
from vision_jax.tasks.adversarial import Adversarial
from vision_jax.tasks.base import Task
from vision_jax.tasks.classification import Classification
from vision_jax.tasks.optimizer import build_optimizer, build_schedule
from vision_jax.tasks.reconstruction import Reconstruction

TASKS: dict[str, type[Task]] = {
    "cnn": Classification,
    "autoencoder": Reconstruction,
    "gan": Adversarial,
}
"""The task of each family."""


@dataclasses.dataclass(frozen=True)
class About:
    """What must be known of the data before the network can be built.

    Attributes:
        image_shape: (height, width, channels).
        label_names: the classes, or None.
        train_examples: images trained on.
        steps_per_epoch: batches in a pass over them.
        skipped: bad files of the training split that were left out.
    """

    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...] | None
    train_examples: int
    steps_per_epoch: int
    skipped: int = 0

    @classmethod
    def of(cls, loader: Loader) -> "About":
        """Reads it off the training batches."""
        source = loader.source
        return cls(
            source.image_shape,
            source.label_names,
            len(source),
            loader.steps_per_epoch,
            source.skipped or 0,
        )


def build_task(config: TrainConfig, about: About) -> Task:
    """The task that a config describes.

    Args:
        config: the run's config.
        about: the data's shape and classes.

    Returns:
        The task, with its network and update rule.

    Raises:
        InputError: the data has no labels, or a value does not suit its images.
    """
    rule, moves = _rule(config, about), config.optimizer
    match config:
        case TrainCNN(model=model):
            return Classification(
                _classifier(config, about),
                rule,
                model.label_smoothing,
                tuple(model.mean),
                tuple(model.std),
                accumulate=moves.accumulate,
                remat=config.remat,
                ema=moves.ema,
            )
        case TrainAutoencoder(model=model):
            return Reconstruction(
                _autoencoder(config, about),
                rule,
                model.loss,
                model.beta,
                accumulate=moves.accumulate,
                remat=config.remat,
                ema=moves.ema,
            )
        case TrainGAN(model=model):
            return Adversarial(
                Generator(about.image_shape, model.generator, model.latent_size, config.precision),
                Discriminator(
                    model.discriminator, model.dropout, model.spectral_norm, config.precision
                ),
                rule,
                model.loss,
                model.r1,
                model.ema,
                model.augmentations,
                accumulate=moves.accumulate,
                remat=config.remat,
            )
    raise InputError(f"{type(config).__name__} is no config of a known family")


def build_augmentation(data: DataConfig, about: About, count: int) -> Augment | None:
    """The transforms of the training images that a config describes.

    Args:
        data: the run's data config.
        about: the data's shape.
        count: images of a device's batch.

    Returns:
        The function that a train step calls; None if there is nothing to do.

    Raises:
        InputError: the batch cannot be mixed in pairs, or the images are too small to be padded.
    """
    if data.recipe == "none" and not (data.flip or data.pad_crop):
        return None
    chosen = partial(augment, recipe=data.recipe, flip=data.flip, pad_crop=data.pad_crop)
    try:
        jax.eval_shape(lambda: chosen(jax.random.key(0), blank_batch(about.image_shape, count)))
    except ValueError as error:
        raise InputError(
            f"data.recipe is {data.recipe!r}, data.pad_crop is {data.pad_crop}: {error}"
        ) from error
    return chosen


def _rule(config: TrainConfig, about: About) -> optax.GradientTransformation:
    optimizer, per_epoch = config.optimizer, about.steps_per_epoch
    schedule = build_schedule(
        optimizer.learning_rate,
        optimizer.schedule,
        warmup_steps=round(optimizer.warmup_epochs * per_epoch),
        total_steps=config.epochs * per_epoch,
        drop_steps=[round(epochs * per_epoch) for epochs in optimizer.drop_epochs],
        drop_factor=optimizer.drop_factor,
    )
    return build_optimizer(
        optimizer.name,
        schedule=schedule,
        weight_decay=optimizer.weight_decay,
        momentum=optimizer.momentum,
        clip=optimizer.clip,
        shards=optimizer.shards,
    )


def _classifier(config: TrainCNN, about: About) -> CNN:
    if about.label_names is None:
        raise InputError(f"{config.data.name} has no labels; a classifier needs them")
    return CNN(
        num_classes=len(about.label_names),
        stages=config.model.stages,
        hidden=config.model.hidden,
        padding=config.model.padding,
        dropout=config.model.dropout,
        dtype=config.precision,
    )


def _autoencoder(config: TrainAutoencoder, about: About) -> Autoencoder:
    # What the config leaves open is the network's own default.
    model = config.model
    given = {"hidden": model.hidden, "code": model.code}
    own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    kind = {
        "conv": ConvAutoencoder,
        "dense": DenseAutoencoder,
        "variational": VariationalAutoencoder,
    }[model.kind]
    return kind(image_shape=about.image_shape, dtype=config.precision, **own)
