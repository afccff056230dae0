"""A run's folder: its config, its lock, its checkpoints, and what these say of its data."""

import dataclasses
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cattrs

from vision_jax.config import TrainConfig
from vision_jax.data.info import DataInfo
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.files import TEMPORARY, reading, write_text
from vision_jax.run.build import task_class
from vision_jax.run.config_file import differences, from_json
from vision_jax.run.data import located
from vision_jax.training.checkpoint import Checkpoints

# What a run that was killed before it wrote its config leaves.
_BEFORE_CONFIG = {".lock", "checkpoints", "config.json.tmp"}
_NAMED = 5  # classes in a message
_CONVERTER = cattrs.Converter()


def open_checkpoints(workdir: Path, config: TrainConfig, *, create: bool = False) -> Checkpoints:
    """Open the checkpoints of a config's run.

    Raises:
        InputError: there are none, and `create` is false.
    """
    best: tuple[str, Literal["max", "min"]] | None = task_class(config).best_metric
    metric, mode = best or (None, "max")
    return Checkpoints(workdir / "checkpoints", metric=metric, mode=mode, create=create)


def read_config(workdir: Path) -> TrainConfig:
    """Read a run's config.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = workdir / "config.json"
    try:
        with reading(path, "train one there first") as file:
            content = file.read()
    except InputError as error:
        raise InputError(f"{workdir} holds no run: {error}") from error
    try:
        return from_json(content.decode(), origin=str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: {error}") from error


def check_config(config: TrainConfig, workdir: Path) -> None:
    """Refuse a folder that holds another config's run, or anything else.

    A folder without a checkpoint takes any config: nothing was trained in it.

    Raises:
        InputError: it does.
    """
    try:
        has_config = (workdir / "config.json").is_file()
    except OSError as error:
        raise InputError(f"{workdir} cannot be read: {error.strerror}") from error
    if has_config:
        changes = differences(located(read_config(workdir)), config)
        if changes and has_checkpoint(workdir):
            raise InputError(
                f"{workdir} holds a run of another config ({'; '.join(changes)}); "
                "another workdir or the same settings are needed"
            )
    elif workdir.is_file() or (workdir.is_dir() and _others(workdir)):
        raise InputError(f"{workdir} holds something else than a run; a new folder is needed")


def has_checkpoint(workdir: Path) -> bool:
    """Whether a folder holds a checkpoint, whole or damaged."""
    return any(workdir.glob("checkpoints/*")) or any(workdir.glob("damaged/*"))


def _others(workdir: Path) -> set[str]:
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(TEMPORARY)}
    return names - _BEFORE_CONFIG


def write_config(config: TrainConfig, workdir: Path) -> None:
    """Write `config.json`, whole or not at all."""
    write_text(workdir / "config.json", config.to_json())


def describe(config: TrainConfig, info: DataInfo) -> dict[str, Any]:
    """Return what a checkpoint says of its run, under the checkpoint's checksums."""
    return dataclasses.asdict(info) | {"config": json.loads(config.to_json())}


def read_info(checkpoints: Checkpoints, step: int, config: TrainConfig) -> DataInfo:
    """Read what a checkpoint's data was.

    Args:
        checkpoints: the run's checkpoints.
        step: the checkpoint's step.
        config: what the run's `config.json` holds.

    Raises:
        InputError: the checkpoint was trained with another config: `config.json` was changed.
    """
    about = checkpoints.about(step)
    if "config" in about:  # version 0.1 did not save it
        path = checkpoints.folder.with_name("config.json")
        trained = from_json(json.dumps(about["config"]), origin=f"step {step}")
        if changes := differences(trained, config):
            raise InputError(
                f"{path} was changed: step {step} was trained with other settings "
                f"({'; '.join(changes)}); put them back"
            )
    return _CONVERTER.structure(about, DataInfo)


def check_info(saved: DataInfo, found: DataInfo, workdir: Path) -> None:
    """Refuse data that differs from what the run was trained on.

    Raises:
        InputError: it does.
    """
    for field in dataclasses.fields(DataInfo):
        old, new = getattr(saved, field.name), getattr(found, field.name)
        if old != new:
            raise InputError(
                f"{workdir} was trained on data with {field.name} {old!r}, which is now {new!r}; "
                "the same data or another workdir is needed"
            )


def check_classes(info: DataInfo, source: Source, workdir: Path) -> None:
    """Refuse images of other classes than a run has learnt, whose labels mean something else.

    Raises:
        InputError: they are.
    """
    if source.label_names != info.label_names:
        raise InputError(
            f"{source.name}, {source.split}, has {_classes(source.label_names)}; the run in "
            f"{workdir} has learnt {_classes(info.label_names)}"
        )


def _classes(names: tuple[str, ...] | None) -> str:
    if names is None:
        return "no labels"
    shown = ", ".join(map(repr, names[:_NAMED]))
    more = len(names) - _NAMED
    return f"the classes ({shown})" + (f" and {more} more" if more > 0 else "")


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keep a second process from writing the same folder.

    Raises:
        InputError: one is writing it, or the folder cannot be made or written to.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("w")
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"{workdir} cannot hold a run: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{workdir} is being trained by another process") from None
        yield
