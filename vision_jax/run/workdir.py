"""A run's folder: its config, its lock, its checkpoints, and what these say of its data."""

import dataclasses
import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vision_jax.config import TrainConfig
from vision_jax.data.info import DataInfo
from vision_jax.errors import InputError
from vision_jax.files import TEMPORARY, json_text, reading, write_text
from vision_jax.run.build import task_class
from vision_jax.run.config_file import differences, from_json
from vision_jax.run.data import located
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.stopping import ranking

# What a run that was killed before it wrote its config leaves.
_BEFORE_CONFIG = {".lock", "checkpoints", "config.json.tmp"}

FREE = (
    "epochs",
    "early_stopping",
    "min_delta",
    "optimizer.learning_rate",
    "optimizer.schedule",
    "optimizer.warmup_epochs",
    "optimizer.drop_epochs",
    "optimizer.drop_factor",
    "data.recipe",
    "data.flip",
    "data.pad_crop",
    "data.transforms",
)
"""What an extension of a run may change."""
_EXTENSIONS = "extensions"
_CPU_DEVICES = "cpu_devices"


def open_checkpoints(
    workdir: Path, config: TrainConfig, *, multi_label: bool = False, create: bool = False
) -> Checkpoints:
    """Open the checkpoints of a config's run.

    Args:
        workdir: the run's folder.
        config: what is trained.
        multi_label: whether an image may have several labels; to read, it need not be told.
        create: see `Checkpoints`.

    Raises:
        InputError: there are none, and `create` is false.
    """
    metric, mode = ranking(task_class(config, multi_label=multi_label), config.best_by) or (
        None,
        "max",
    )
    return Checkpoints(workdir / "checkpoints", metric=metric, mode=mode, create=create)


def read_config(workdir: Path) -> TrainConfig:
    """Read a run's config.

    Raises:
        InputError: there is none, or it is damaged.
    """
    values = _read_values(workdir)
    for record in (_EXTENSIONS, _CPU_DEVICES):
        values.pop(record, None)
    return from_json(json.dumps(values), origin=str(workdir / "config.json"))


def last_start(workdir: Path) -> int:
    """Return the epochs done before a run was last extended; 0 if it never was."""
    return max((one["epoch"] for one in read_extensions(workdir)), default=0)


def read_extensions(workdir: Path) -> tuple[dict[str, Any], ...]:
    """Read how a run was extended, oldest first.

    Returns:
        For each extension, `epoch`, the epochs done before it, and `changes`, see `differences`.

    Raises:
        InputError: there is no config, or it is damaged.
    """
    found = _read_values(workdir).get(_EXTENSIONS, [])
    try:
        return tuple({"epoch": int(one["epoch"]), "changes": one["changes"]} for one in found)
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{workdir / 'config.json'} is damaged: extensions: {error!r}") from error


def read_cpu_devices(workdir: Path) -> int | None:
    """Read how many devices of a CPU train a run; None if others do, or none was recorded.

    Raises:
        InputError: there is no config, or it is damaged.
    """
    count = _read_values(workdir).get(_CPU_DEVICES)
    if count is not None and not (isinstance(count, int) and count >= 1):
        path = workdir / "config.json"
        raise InputError(f"{path} is damaged: {_CPU_DEVICES} is {count!r}")
    return count


def _read_values(workdir: Path) -> dict[str, Any]:
    path = workdir / "config.json"
    try:
        with reading(path, "train one there first") as file:
            content = file.read()
    except InputError as error:
        raise InputError(f"{workdir} holds no run: {error}") from error
    try:
        values = json.loads(content.decode())
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a config of this version: it holds no object")
    return values


def check_config(config: TrainConfig, workdir: Path, *, free: Sequence[str] = ()) -> None:
    """Refuse a folder that holds another config's run, or anything else.

    A folder without a checkpoint takes any config: nothing was trained in it.

    Args:
        config: the config.
        workdir: the folder.
        free: fields that may differ.

    Raises:
        InputError: it does.
    """
    try:
        has_config = (workdir / "config.json").is_file()
    except OSError as error:
        raise InputError(f"{workdir} cannot be read: {error.strerror}") from error
    if has_config:
        changes = _fixed(differences(located(read_config(workdir)), config), free)
        if changes and has_checkpoint(workdir):
            raise InputError(
                f"{workdir} holds a run of another config ({'; '.join(changes)}); "
                "another workdir or the same settings are needed"
            )
    elif workdir.is_file() or (workdir.is_dir() and _others(workdir)):
        raise InputError(f"{workdir} holds something else than a run; a new folder is needed")


def _fixed(changes: Sequence[str], free: Sequence[str]) -> list[str]:
    """Leave out the differences in fields that may differ."""
    return [change for change in changes if change.partition(":")[0] not in free]


def has_checkpoint(workdir: Path) -> bool:
    """Whether a folder holds a checkpoint, whole or damaged."""
    try:
        return any(workdir.glob("checkpoints/*")) or any(workdir.glob("damaged/*"))
    except OSError:  # a name that no folder can have; what writes there refuses it
        return False


def _others(workdir: Path) -> set[str]:
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(TEMPORARY)}
    return names - _BEFORE_CONFIG


def write_config(
    config: TrainConfig,
    workdir: Path,
    extensions: Sequence[dict[str, Any]] = (),
    *,
    cpu_devices: int | None = None,
) -> None:
    """Write `config.json`, whole or not at all.

    Args:
        config: the config.
        workdir: the run's folder.
        extensions: see `read_extensions`.
        cpu_devices: see `read_cpu_devices`.
    """
    text, records = config.to_json(), dict[str, Any]()
    if extensions:
        records[_EXTENSIONS] = extensions
    if cpu_devices is not None:
        records[_CPU_DEVICES] = cpu_devices
    if records:
        text = json_text(json.loads(text) | records)
    write_text(workdir / "config.json", text)


def describe(config: TrainConfig, info: DataInfo) -> dict[str, Any]:
    """Return what a checkpoint says of its run, under the checkpoint's checksums."""
    return dataclasses.asdict(info) | {"config": json.loads(config.to_json())}


def read_info(
    checkpoints: Checkpoints, step: int, config: TrainConfig, *, start: int = 0
) -> DataInfo:
    """Read what a checkpoint's data was.

    Args:
        checkpoints: the run's checkpoints.
        step: the checkpoint's step.
        config: what the run's `config.json` holds.
        start: epochs done before the run was last extended. A checkpoint from before that may have
            been trained with other settings of those that an extension changes.

    Raises:
        InputError: the checkpoint was trained with another config: `config.json` was changed.
    """
    about = checkpoints.about(step)
    if "config" in about:  # version 0.1 did not save it
        path = checkpoints.folder.with_name("config.json")
        trained = from_json(json.dumps(about["config"]), origin=f"step {step}")
        earlier = start > 0 and step <= start * about["steps_per_epoch"]
        if changes := _fixed(differences(trained, config), FREE if earlier else ()):
            raise InputError(
                f"{path} was changed: step {step} was trained with other settings "
                f"({'; '.join(changes)}); put them back"
            )
    import cattrs  # training and search without a run's folder do not need it

    return cattrs.Converter().structure(about, DataInfo)


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


@contextmanager
def lock(workdir: Path, *, used: str = "trained") -> Iterator[None]:
    """Keep a second process from writing the same folder.

    Args:
        workdir: the folder; made if it is not there.
        used: what is done with it, for the message.

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
            raise InputError(f"{workdir} is being {used} by another process") from None
        yield
