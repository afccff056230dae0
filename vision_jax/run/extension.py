"""Training a finished run on: more epochs, by a schedule that begins anew."""

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import Any

from vision_jax.config import TrainConfig
from vision_jax.errors import InputError
from vision_jax.run.config_file import differences
from vision_jax.run.data import located
from vision_jax.run.workdir import (
    FREE,
    has_checkpoint,
    last_start,
    open_checkpoints,
    read_config,
    read_extensions,
)
from vision_jax.training.stopping import Watch


@dataclasses.dataclass(frozen=True)
class Stage:
    """The part of a run's training that one schedule covers.

    Attributes:
        start: epochs done before it.
        extensions: the run's extensions up to this stage, as `config.json` lists them.
        begins: whether it is a new one.
    """

    start: int = 0
    extensions: tuple[dict[str, Any], ...] = ()
    begins: bool = False

    def describe(self, config: TrainConfig) -> str:
        """Say what the schedule is."""
        moves = config.optimizer
        warmup = f" after a warm-up of {moves.warmup_epochs:g}" if moves.warmup_epochs else ""
        return (
            f"extending from epoch {self.start} to {config.epochs}: the schedule begins anew, "
            f"{moves.schedule} from {moves.learning_rate:g} over {config.epochs - self.start} "
            f"epochs{warmup}; weights and optimizer state are those of the last epoch"
        )


def current_stage(config: TrainConfig, workdir: Path, *, extend: bool) -> Stage:
    """Find the stage that a config trains in a folder.

    Args:
        config: the config, its paths absolute.
        workdir: the run's folder.
        extend: whether other epochs, schedules and augmentations begin a new stage.

    Returns:
        The stage that the folder is in; a new one if `extend` and the config asks for other values
        than the folder's.

    Raises:
        InputError: with `extend`, the folder holds no run, the run is not finished, the config asks
            for no more epochs, or it differs in what an extension cannot change.
    """
    if not has_checkpoint(workdir):
        if extend:
            raise InputError(f"extend is True; {workdir} holds no run that could be extended")
        return Stage()
    extensions = read_extensions(workdir)
    stage = Stage(last_start(workdir), extensions)
    changes = differences(located(read_config(workdir)), config) if extend else []
    if not changes:
        return stage
    if fixed := [change for change in changes if change.partition(":")[0] not in FREE]:
        raise InputError(
            f"extend is True; {'; '.join(fixed)}: an extension can change only {', '.join(FREE)}"
        )
    done = _epochs_done(workdir)
    if config.epochs <= done:
        raise InputError(
            f"epochs is {config.epochs}; more than the {done} that are done are needed to extend "
            "the run"
        )
    new = {"epoch": done, "changes": changes}
    return Stage(done, (*extensions, new), begins=True)


def _epochs_done(workdir: Path) -> int:
    """Return the number of epochs of a finished run.

    Raises:
        InputError: it is not finished.
    """
    config = read_config(workdir)
    with closing(open_checkpoints(workdir, config)) as checkpoints:
        step = checkpoints.find("last")
        if step is None:
            raise InputError(f"{workdir} holds no checkpoint that could be extended")
        about = checkpoints.about(step)
    epochs, rest = divmod(step, about["steps_per_epoch"])
    stopped = config.early_stopping is not None and Watch.stopped(about, config.early_stopping)
    if rest or (epochs < config.epochs and not stopped):
        raise InputError(
            f"extend is True; {workdir} is at step {step} of "
            f"{config.epochs * about['steps_per_epoch']}: finish it first, by the command that "
            "began it"
        )
    return epochs
