"""Training a config in a folder."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from vision_jax.augment.recipes import Augment
from vision_jax.config import TrainConfig
from vision_jax.data.data_set import DataSet
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader
from vision_jax.data.sources import Source, evenly_spaced
from vision_jax.errors import InputError
from vision_jax.parallel.processes import first_alone, together
from vision_jax.run.build import build_augmentation, build_task
from vision_jax.run.data import located, resolved, split_loader
from vision_jax.run.epoch_images import FOLDER as EPOCHS
from vision_jax.run.epoch_images import SHOWN, epoch_images
from vision_jax.run.extension import Stage, current_stage
from vision_jax.run.init_from import Start, completed, start_from
from vision_jax.run.run import Run, load_run
from vision_jax.run.workdir import (
    FREE,
    check_config,
    check_info,
    describe,
    lock,
    open_checkpoints,
    read_info,
    write_config,
)
from vision_jax.tasks.base import Task
from vision_jax.training.loop import FitResult, fit, initial_state
from vision_jax.training.metrics import MetricsLog
from vision_jax.training.profile import Profile, open_profile
from vision_jax.training.steps import DataParallel
from vision_jax.training.stopping import EarlyStopping, check_judged, check_metric, ranking


def train(
    config: TrainConfig,
    workdir: str | Path,
    *,
    extend: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    profile: range | None = None,
    progress: bool = True,
) -> FitResult:
    """Train a config in a folder, or resume where an earlier call stopped.

    All processes that `jax.distributed` joined call it; process 0 writes.

    Args:
        config: what to train.
        workdir: the run's folder; made if it is not there.
        extend: whether a finished run goes on where the config asks for more epochs, and perhaps
            another learning rate, schedule or augmentation; see `run.workdir.FREE`. The schedule
            begins anew over the added epochs. An extension is resumed by the same call.
        should_stop: called after each step; once it returns true, the state is saved and training
            ends.
        profile: the steps to trace into the folder for TensorBoard and Perfetto.
        progress: whether to show a progress bar and a line per epoch.

    Returns:
        The last state and the history of this call.

    Raises:
        InputError: bad data, steps to profile that the run does not have, a run to start from that
            does not fit, or the folder holds another config's run or is in use.
        TrainingDivergedError: the loss is NaN or infinite.

    >>> import vision_jax
    >>> from vision_jax.config import CNNConfig, DataConfig, TrainCNN
    >>> data, model = DataConfig(name="digits"), CNNConfig(stages=(8,), hidden=16)
    >>> config = TrainCNN(data=data, model=model, epochs=1)
    >>> result = vision_jax.train(config, "runs/digits", progress=False)
    >>> [row["epoch"] for row in result.history]
    [1]
    """
    if not isinstance(config, TrainConfig):
        raise InputError(f"config is a {type(config).__name__}; a TrainConfig is needed")
    workdir = Path(workdir)
    config, origin = together(partial(completed, located(config), workdir))
    stage = together(partial(current_stage, config, workdir, extend=extend))
    # Data sets are prepared and folders made by one process, and found by the others.
    prepared = first_alone(partial(_prepare, config, workdir, stage))
    parts = together(partial(_open, config, prepared, workdir, profile, origin, stage))
    config, parallel, loader, task = parts.config, parts.parallel, parts.loader, parts.task
    info, start = parts.info, parts.start
    write = partial(write_config, config, workdir, cpu_devices=parallel.cpu_count)
    with ExitStack() as stack:
        first_alone(lambda: stack.enter_context(lock(workdir)))
        opened = open_checkpoints(workdir, config, multi_label=info.multi_label, create=True)
        checkpoints = stack.enter_context(closing(opened))
        if parallel.is_first and stage.begins:
            write(stage.extensions)
            if progress:
                print(stage.describe(config))
        found = checkpoints.find("last")
        if found is not None:
            check_info(read_info(checkpoints, found, config, start=stage.start), info, workdir)
        elif start is None and config.init_from is not None:
            start = start_from(load_run(config.init_from), task, config, info)
        log = show = None
        if parallel.is_first:
            write(stage.extensions)
            if start:
                start.write(workdir)
            if start and progress:
                print(start.describe())
            if progress and (parallel.cpu_count or 1) > 1:
                print(f"training on {parallel.count} devices of the CPU")
            log = stack.enter_context(closing(MetricsLog(workdir, step=found or 0)))
            source = parts.validation.source
            shown = source.read(evenly_spaced(len(source), SHOWN).tolist())
            images = np.stack([example["image"] for example in shown])
            show = epoch_images(task, workdir / EPOCHS, images)
        return fit(
            task,
            loader,
            epochs=config.epochs,
            seed=config.seed,
            state=start.state if start else None,
            validation=parts.validation,
            early_stopping=parts.early_stopping,
            augment=parts.augment,
            parallel=parallel,
            checkpoints=checkpoints,
            about=describe(config, info),
            log=log,
            after_epoch=show,
            should_stop=should_stop,
            profile=parts.traced if parallel.is_first else None,
            progress=progress,
        )


class _Parts(NamedTuple):
    """What a run is made of, before anything is written."""

    config: TrainConfig
    parallel: DataParallel
    loader: Loader
    validation: Loader
    info: DataInfo
    task: Task
    early_stopping: EarlyStopping | None
    augment: Augment | None
    traced: Profile | None
    start: Start | None


def _open(
    config: TrainConfig,
    prepared: tuple[TrainConfig, DataSet] | None,
    workdir: Path,
    profile: range | None,
    origin: Run | None,
    stage: Stage,
) -> _Parts:
    """Open the data and build the task, refusing what cannot be trained."""
    config, data = prepared or resolved(config)
    train_source = data.source(config.data.train_split)
    validation_source = data.source(config.data.validation_split)
    parallel = DataParallel.over(shards=config.optimizer.shards)
    loader = split_loader(config, train_source, parallel, train=True)
    validation = split_loader(config, validation_source, parallel, train=False)
    info = DataInfo.of(loader, count_classes=config.counts_classes)
    task = build_task(config, info, start=stage.start)
    parallel.check(loader.batch_size, config.optimizer.accumulate or 1)
    _check_shapes(task, config, train_source)
    check_metric(task, config.best_by, info.image_shape, "best_by")
    for name in ("best_by", "early_stopping"):
        if getattr(config, name) is not None:
            check_judged(task, validation_source, name)
    start = start_from(origin, task, config, info) if origin else None
    augment = build_augmentation(
        config.data, info, loader.batch_size // parallel.count, needs=task.needs
    )
    traced = open_profile(profile, workdir, config.epochs * loader.steps_per_epoch)
    stopping = _early_stopping(config, task, stage)
    return _Parts(
        config, parallel, loader, validation, info, task, stopping, augment, traced, start
    )


def _early_stopping(config: TrainConfig, task: Task, stage: Stage) -> EarlyStopping | None:
    if config.early_stopping is None:
        return None
    if ranking(task, config.best_by) is None:
        raise InputError(
            f"early_stopping is {config.early_stopping}; it must be None without best_by: "
            f"`train {config.name}` has no metric of its own that tells the best weights"
        )
    return EarlyStopping(config.early_stopping, config.min_delta, config.best_by, stage.start)


def _prepare(config: TrainConfig, workdir: Path, stage: Stage) -> tuple[TrainConfig, DataSet]:
    """Open the data, preparing it first if need be, and refuse a workdir of another run."""
    free = FREE if stage.begins else ()
    check_config(located(config), workdir, free=free)
    config, data = resolved(config)
    check_config(config, workdir, free=free)
    return config, data


def _check_shapes(task: Task, config: TrainConfig, source: Source) -> None:
    """Refuse images that the model cannot take, before anything is written."""
    try:
        jax.eval_shape(lambda: initial_state(task, config.seed, source.image_shape))
    except ValueError as error:
        raise InputError(f"{source.name}: {error}") from error
