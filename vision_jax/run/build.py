"""From a config and its data's facts to a task and its augmentation."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import optax

from vision_jax.augment.recipes import Augment, augment
from vision_jax.config import DataConfig, OptimizerConfig, TrainConfig
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import blank_batch
from vision_jax.errors import InputError
from vision_jax.tasks.base import Needs, Task
from vision_jax.tasks.optimizer import build_optimizer, build_schedule
from vision_jax.tasks.stages import stage_depths


def task_class(config: TrainConfig, *, multi_label: bool = False) -> Any:
    """Import the class of the task that a config trains, on images of one label or of several."""
    place = (config.multi_label_task if multi_label else None) or config.task
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def build_task(config: TrainConfig, info: DataInfo, *, start: int = 0) -> Task:
    """Build the task that a config describes.

    Args:
        config: the run's config.
        info: the data's shape and classes.
        start: epochs done before the learning rate's schedule begins.

    Returns:
        The task, with its model and update rule.

    Raises:
        InputError: the data has no labels, or a value does not suit its images.
    """
    optimizer = partial(_optimizer, config.optimizer, info.steps_per_epoch, config.epochs, start)
    kind = task_class(config, multi_label=info.multi_label)
    task: Any = kind.from_config(config, info, optimizer())
    if info.multi_label and task.needs.labels and not task.needs.multi_label:
        raise InputError(
            f"{config.data.name} has several labels an image; {config.name} needs one, as a column "
            "called label gives it"
        )
    if config.optimizer.tunes:
        task = _tuned(task, config, info, optimizer)
    built: Task = task
    return built


def _tuned(task: Any, config: TrainConfig, info: DataInfo, optimizer: Callable[..., Any]) -> Any:
    """Let a task train parts of its model in other ways than the rest, or not at all.

    Raises:
        InputError: the model does not take the data's images, or has no head to train.
    """
    try:
        depths = stage_depths(task.model, info.image_shape)
    except ValueError as error:
        raise InputError(f"{config.data.name}: {error}") from error
    moves = config.optimizer
    if 0 not in depths.values() and (moves.freeze == "backbone" or moves.head_epochs):
        raise InputError(
            f"optimizer.freeze is {moves.freeze} and optimizer.head_epochs {moves.head_epochs}; "
            "they must be none and 0 with a model that has no head"
        )
    frozen = {path for path, depth in depths.items() if depth and moves.freeze == "backbone"}
    return dataclasses.replace(
        task,
        optimizer=optimizer(depths),
        frozen=frozenset(frozen),
        fixed_statistics=moves.freeze != "none",
    )


def build_augmentation(
    data: DataConfig, info: DataInfo, count: int, *, needs: Needs | None = None
) -> Augment | None:
    """Build the transforms of the training images that a config describes.

    Args:
        data: the run's data config.
        info: the data's shape.
        count: images of a device's batch.
        needs: what the task needs of its batches.

    Returns:
        The function that a train step calls; None if there is nothing to do.

    Raises:
        InputError: the batch cannot be mixed in pairs, the images are too small to be padded, or
            the task needs views and nothing tells them apart.
    """
    if data.recipe == "none" and not (data.flip or data.pad_crop or data.transforms):
        if needs and needs.views:
            raise InputError(
                f"data.recipe is {data.recipe!r}; a recipe is needed, which tells the "
                f"{needs.views} views of an image apart"
            )
        return None
    chosen = partial(
        augment,
        recipe=data.recipe,
        flip=data.flip,
        pad_crop=data.pad_crop,
        transforms=data.transforms,
    )
    # Refused here, before anything is written, and not in the first step.
    labels = len(info.label_names or ()) if info.multi_label else None
    blank = partial(blank_batch, info.image_shape, count, labels=labels)
    jax.eval_shape(lambda: chosen(jax.random.key(0), blank()))
    return chosen


def _optimizer(
    config: OptimizerConfig,
    steps_per_epoch: int,
    epochs: int,
    start: int,
    depths: Mapping[str, int] | None = None,
) -> optax.GradientTransformation:
    schedule = build_schedule(
        config.learning_rate,
        config.schedule,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        start=start * steps_per_epoch,
        total_steps=epochs * steps_per_epoch,
        drop_steps=[round(drop * steps_per_epoch) for drop in config.drop_epochs],
        drop_factor=config.drop_factor,
    )
    return build_optimizer(
        config.name,
        schedule=schedule,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        clip=config.clip,
        shards=config.shards,
        depths=depths,
        layer_decay=config.layer_decay,
        head_steps=config.head_epochs * steps_per_epoch,
    )
