"""Starting a run from another one: its model and preprocessing as defaults, and its weights."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from vision_jax.config import (
    AUTO,
    AutoencoderConfig,
    ClassifierConfig,
    ModelConfig,
    TrainConfig,
)
from vision_jax.data.info import DataInfo
from vision_jax.errors import InputError
from vision_jax.files import json_text, write_text
from vision_jax.run.run import Run, load_run
from vision_jax.run.workdir import has_checkpoint, read_config
from vision_jax.tasks.stages import stage_depths
from vision_jax.tasks.state import TrainState
from vision_jax.training.loop import initial_state

RECORD = "init_from.json"
# Decided by a run's own labels, precision and data.
_OWN_OPTIONS = {"num_classes", "dtype", "mean", "std"}
_NAMED = 4


@dataclasses.dataclass(frozen=True)
class Start:
    """The state that a run starts from, and where its weights come from.

    Attributes:
        state: the state at step 0.
        origin: the run that the weights were taken from: its folder, step and identity.
        taken: paths of the weights and statistics that were taken.
        new: paths and shapes of those that were initialised.
        left_out: those of the other run that this one has no place for.
    """

    state: TrainState
    origin: dict[str, Any]
    taken: list[str]
    new: dict[str, tuple[int, ...]]
    left_out: dict[str, tuple[int, ...]]

    def describe(self) -> str:
        """Return lines that say what was taken, is new and was left out."""
        lines = [
            f"{self.origin['run']}, step {self.origin['step']}: {len(self.taken)} tensors taken"
        ]
        for what, leaves in (("new", self.new), ("left out", self.left_out)):
            lines.append(f"  {len(leaves)} {what}{_listed(leaves)}")
        return "\n".join(lines)

    def write(self, workdir: Path) -> None:
        """Record in a run's folder where its weights come from."""
        record = {**self.origin, "taken": len(self.taken), "new": self.new}
        write_text(workdir / RECORD, json_text({**record, "left_out": self.left_out}))


def _listed(leaves: dict[str, tuple[int, ...]]) -> str:
    named = [f"{path} {shape}" for path, shape in leaves.items()][:_NAMED]
    more = len(leaves) - len(named)
    if not named:
        return ""
    return ": " + ", ".join(named) + (f" and {more} more" if more else "")


def completed(config: TrainConfig, workdir: Path) -> tuple[TrainConfig, Run | None]:
    """Fill in what a config leaves to the run that it starts from.

    A run that is resumed asks its own config, and needs the other run no more.

    Args:
        config: the config, its paths absolute.
        workdir: the folder that it trains in.

    Returns:
        The whole config, and the other run; None if the config starts from none or is resumed.

    Raises:
        InputError: the other run does not exist, or has another model or other channels.
    """
    if config.init_from is None:
        return config, None
    if has_checkpoint(workdir):
        return _filled(config, read_config(workdir)), None
    source = load_run(config.init_from)
    return like_run(config, source), source


def like_run(config: TrainConfig, source: Run) -> TrainConfig:
    """Fill in what a config leaves to a run that it starts from.

    Args:
        config: the config, with `init_from`.
        source: that run.

    Raises:
        InputError: the run has another model or other channels.
    """
    height, width, channels = source.info.image_shape
    data = source.config.data
    size = height if height == width else (height, width)
    like = dataclasses.replace(
        source.config, data=dataclasses.replace(data, image_size=size, channels=channels)
    )
    whole = _filled(config, like)
    _check_fit(whole, like)
    return whole


def _filled(config: TrainConfig, like: TrainConfig) -> TrainConfig:
    """Take the model and what is done to images from another config where one leaves them open."""
    names = ["image_size", "fit", "crop", "interpolation", "channels"]
    names += ["mean", "std"] if config.normalizes else []
    open_names = (name for name in names if getattr(config.data, name) is None)
    data = {name: getattr(like.data, name) for name in open_names}
    if config.data.fit in ("pad", "stretch"):
        data.pop("crop", None)  # which they take the place of
    elif config.data.crop not in (None, 1):
        data.pop("fit", None)
    changes: dict[str, Any] = {"data": dataclasses.replace(config.data, **data)}
    model, other = _model(config), _backbone(config, like)
    if isinstance(model, ModelConfig):
        name = other.name if model.name == AUTO and hasattr(other, "name") else model.name
        theirs = getattr(other, "options", {})
        options = {key: value for key, value in theirs.items() if key not in _OWN_OPTIONS}
        changes["model"] = ModelConfig(name, options | model.options)
    return dataclasses.replace(config, **changes)


def _check_fit(config: TrainConfig, like: TrainConfig) -> None:
    theirs = getattr(_backbone(config, like), "name", None)
    if theirs is None:
        raise InputError(
            f"init_from is {config.init_from!r}, a run of `train {like.name}`; it must be a run of "
            "one model"
        )
    for name, own, other in (
        ("model.name", _model(config).name, theirs),
        ("data.channels", config.data.channels, like.data.channels),
    ):
        if own != other:
            raise InputError(
                f"{name} is {own!r} and that of init_from, {config.init_from}, is {other!r}; they "
                "must be the same"
            )


def _model(config: Any) -> Any:
    return config.model


def _backbone(config: TrainConfig, like: TrainConfig) -> Any:
    """Return the model that another config's weights fit: an autoencoder's encoder classifies."""
    theirs = _model(like)
    if not (isinstance(config, ClassifierConfig) and isinstance(theirs, AutoencoderConfig)):
        return theirs
    given = {"hidden": theirs.hidden and list(theirs.hidden), "code": theirs.code}
    options = {name: value for name, value in given.items() if value is not None}
    return ModelConfig(f"{theirs.kind}_encoder", options)


def start_from(source: Run, task: Any, config: TrainConfig, info: DataInfo) -> Start:
    """Make the state before the first step of what fits from another run.

    The backbone, whose output is the embedding, must fit as a whole. The head is taken if it means
    the same: for the same classes or, without labels, for the same task.

    Args:
        source: the other run.
        task: what is trained, a `ModelTask`.
        config: its config.
        info: its data's shape and classes.

    Returns:
        The state, and what was taken, is new and was left out.

    Raises:
        InputError: the backbone does not fit.
    """
    state = initial_state(task, config.seed, info.image_shape)
    depths = stage_depths(task.model, info.image_shape)
    theirs = _weights(source.task, jax.device_get(source.state.average or source.state.variables))
    own = _weights(task, state.variables)
    keeps_head = _same_head(source, task, info)
    taken, new = list[str](), dict[str, tuple[int, ...]]()
    for path, leaf in own.items():
        fits = path in theirs and theirs[path].shape == leaf.shape
        if fits and (keeps_head or depths[_within(path)]):
            taken.append(path)
        else:
            new[path] = leaf.shape
    _check_backbone([path for path in new if depths[_within(path)]], own, theirs, source)
    variables = unflatten_dict(own | {path: jnp.asarray(theirs[path]) for path in taken}, sep="/")
    return Start(
        task.begin(state.key, {"batch_stats": {}} | variables),
        {"run": str(source.workdir), "step": source.step, "identity": source.identity},
        taken,
        {_within(path): shape for path, shape in new.items()},
        {_within(path): leaf.shape for path, leaf in theirs.items() if path not in taken},
    )


def _same_head(source: Run, task: Any, info: DataInfo) -> bool:
    """Whether what lies behind the embedding means the same in two runs."""
    if task.needs.labels:
        return source.task.needs.labels and source.info.label_names == info.label_names
    return type(source.task) is type(task)


def _check_backbone(
    missing: Sequence[str], own: dict[str, Any], theirs: dict[str, Any], source: Run
) -> None:
    if not missing:
        return
    path = missing[0]
    there = f"of shape {theirs[path].shape}" if path in theirs else "missing"
    more = f", as are {len(missing) - 1} more tensors" if len(missing) > 1 else ""
    raise InputError(
        f"{_within(path)} is {there} in {source.workdir}{more}; shape {own[path].shape} is needed: "
        "model.options and data.image_size must be those of init_from"
    )


def _weights(task: Any, variables: dict[str, Any]) -> dict[str, Any]:
    """Name each array of the model, without what a task remembers, by its collection and path."""
    remembered = task.nothing_remembered()
    leaves = flatten_dict(variables, sep="/").items()
    return {path: leaf for path, leaf in leaves if _within(path) not in remembered}


def _within(path: str) -> str:
    """Return a variable's path within the model, as `stage_depths` has it."""
    return path.partition("/")[2]
