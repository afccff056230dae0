"""A run's folder: its config, its lock, its checkpoints, and what these say of its data."""

import dataclasses
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cattrs

from vision_jax import config as configs
from vision_jax.config import TrainConfig
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.run.build import TASKS, About
from vision_jax.training.checkpoint import Checkpoints

# What a run that was killed before it wrote its config leaves.
_BEFORE_CONFIG = {".lock", "checkpoints", "config.json.tmp"}
_CONVERTER = cattrs.Converter()


def open_checkpoints(workdir: Path, config: TrainConfig, *, create: bool = False) -> Checkpoints:
    """Opens the checkpoints of a config's run.

    Raises:
        InputError: there are none, and `create` is false.
    """
    metric, mode = TASKS[config.family].best_metric or (None, "max")
    return Checkpoints(workdir / "checkpoints", metric=metric, mode=mode, create=create)


def check_config(config: TrainConfig, workdir: Path) -> None:
    """Refuses a folder that holds another config's run, or anything else.

    Raises:
        InputError: it does.
    """
    path = workdir / "config.json"
    if path.is_file():
        old = configs.from_json(path.read_text(), origin=str(path))
        if changes := configs.differences(old, config):
            raise InputError(
                f"{workdir} holds a run of another config ({'; '.join(changes)}); "
                "another --workdir or the same settings are needed"
            )
    elif workdir.is_file() or (
        workdir.is_dir() and {path.name for path in workdir.iterdir()} - _BEFORE_CONFIG
    ):
        raise InputError(f"{workdir} holds something else than a run; a new folder is needed")


def write_config(config: TrainConfig, workdir: Path) -> None:
    """Writes `config.json`, whole or not at all."""
    path = workdir / "config.json"
    temporary = path.with_name("config.json.tmp")
    temporary.write_text(config.to_json())
    temporary.replace(path)


def read_about(checkpoints: Checkpoints, step: int) -> About:
    """Reads what a checkpoint's data was."""
    return _CONVERTER.structure(checkpoints.about(step), About)


def check_about(saved: About, found: About, workdir: Path) -> None:
    """Refuses data that is another than what the run was trained on.

    Raises:
        InputError: it is.
    """
    for field in dataclasses.fields(About):
        old, new = getattr(saved, field.name), getattr(found, field.name)
        if old != new:
            raise InputError(
                f"{workdir} was trained on data with {field.name} {old!r}, which is now {new!r}; "
                "the same data or another --workdir is needed"
            )


def check_classes(about: About, source: Source, workdir: Path) -> None:
    """Refuses images of other classes than a run has learnt, whose labels mean something else.

    Raises:
        InputError: they are.
    """
    if source.label_names != about.label_names:
        raise InputError(
            f"{source.name}, {source.split}, has the classes {source.label_names}; the run in "
            f"{workdir} has learnt {about.label_names}"
        )


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keeps a second process from writing the same folder.

    Raises:
        InputError: one is at it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{workdir} is being trained by another process") from None
        yield
