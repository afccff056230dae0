"""Training a config in a folder."""

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import jax
import numpy as np

from vision_jax.config import TrainConfig
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.parallel.processes import first_alone
from vision_jax.run.build import About, build_augmentation, build_task
from vision_jax.run.data import open_split, split_loader
from vision_jax.run.epoch_images import FOLDER as EPOCHS
from vision_jax.run.epoch_images import SHOWN, epoch_sheets
from vision_jax.run.workdir import (
    check_about,
    check_config,
    lock,
    open_checkpoints,
    read_about,
    write_config,
)
from vision_jax.tasks.base import Task
from vision_jax.training.loop import FitResult, fit, initial_state
from vision_jax.training.metrics import MetricsLog
from vision_jax.training.profile import open_profile
from vision_jax.training.steps import DataParallel


def train(
    config: TrainConfig,
    workdir: str | Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    profile: range | None = None,
    progress: bool = True,
) -> FitResult:
    """Trains a config in a folder, or goes on where an earlier call with it stopped.

    Several processes that `jax.distributed` joined all call it; the first of them writes.

    Args:
        config: what to train.
        workdir: the run's folder; made if it is not there.
        should_stop: asked after each step; once true, the state is saved and training ends.
        profile: the steps to trace into the folder for TensorBoard and Perfetto.
        progress: whether to show a bar and a line per epoch.

    Returns:
        The last state and the history of this call.

    Raises:
        InputError: bad data, steps to profile that the run does not have, or the folder holds
            another config's run or is in use.
        TrainingDivergedError: the loss is no longer finite.
    """
    workdir = Path(workdir)
    # Data sets are prepared and folders made by one process, and found by the others.
    first_alone(partial(_prepare, config, workdir))
    train_source = open_split(config.data, config.data.train_split)
    validation_source = open_split(config.data, config.data.validation_split)
    parallel = DataParallel.over(shards=config.optimizer.shards)
    loader = split_loader(config, train_source, parallel, train=True)
    validation = split_loader(config, validation_source, parallel, train=False)
    about = About.of(loader)
    task = build_task(config, about)
    parallel.check(loader.batch_size, config.optimizer.accumulate or 1)
    _check_shapes(task, config, train_source)
    augment = build_augmentation(config.data, about, loader.batch_size // parallel.count)
    traced = open_profile(profile, workdir, config.epochs * loader.steps_per_epoch)
    with ExitStack() as stack:
        first_alone(lambda: stack.enter_context(lock(workdir)))
        checkpoints = stack.enter_context(closing(open_checkpoints(workdir, config, create=True)))
        found = checkpoints.find("last")
        if found is not None:
            check_about(read_about(checkpoints, found), about, workdir)
        log = show = None
        if parallel.is_first:
            write_config(config, workdir)
            log = stack.enter_context(closing(MetricsLog(workdir, step=found or 0)))
            shown = validation_source.read(range(min(SHOWN, len(validation_source))))
            images = np.stack([example["image"] for example in shown])
            show = epoch_sheets(task, workdir / EPOCHS, images)
        return fit(
            task,
            loader,
            epochs=config.epochs,
            seed=config.seed,
            validation=validation,
            augment=augment,
            parallel=parallel,
            checkpoints=checkpoints,
            about=dataclasses.asdict(about),
            log=log,
            after_epoch=show,
            should_stop=should_stop,
            profile=traced if parallel.is_first else None,
            progress=progress,
        )


def _prepare(config: TrainConfig, workdir: Path) -> None:
    """Refuses a workdir of another run, and has the data prepared."""
    check_config(config, workdir)
    open_split(config.data, config.data.train_split)


def _check_shapes(task: Task, config: TrainConfig, source: Source) -> None:
    """Refuses images that the network cannot take, before anything is written."""
    try:
        jax.eval_shape(lambda: initial_state(task, config.seed, source.image_shape))
    except ValueError as error:
        raise InputError(f"{source.name}: {error}") from error
