"""Make a run of weights that were trained elsewhere."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.bars import tqdm
from vision_jax.checked import check_choice
from vision_jax.config import DataConfig, Fit, ImportedModel, ModelConfig, WeightsConfig
from vision_jax.data.info import DataInfo
from vision_jax.data.resize import Size, sides
from vision_jax.errors import InputError
from vision_jax.files import sha256_of
from vision_jax.models import MODELS
from vision_jax.run.build import build_task
from vision_jax.run.run import Run, load_run
from vision_jax.run.workdir import (
    check_config,
    describe,
    has_checkpoint,
    lock,
    open_checkpoints,
    write_config,
)
from vision_jax.tasks.base import Task
from vision_jax.tasks.state import TrainState
from vision_jax.training.loop import initial_state
from vision_jax.training.steps import DataParallel
from vision_jax.weights.hub import START as HUB
from vision_jax.weights.hub import library_of, local_file
from vision_jax.weights.mapping import Weights, load_weights
from vision_jax.weights.pretrained import PRETRAINED, class_names, find_pretrained
from vision_jax.weights.tensors import read_tensors


def import_weights(
    model: str,
    weights: str | Path | None = None,
    *,
    workdir: str | Path,
    source: str | None = None,
    image_size: Size | None = None,
    fit: Fit | None = None,
) -> Run:
    """Make a run of a model and weights that were trained elsewhere.

    The run is at step 0. It embeds and searches at once, and predicts if the weights have an output
    layer. It has no data of its own: `load_run(workdir, data=…)` and the commands are told some.

    Args:
        model: a name of `vision_jax.models.MODELS`.
        weights: a file, or `hf://REPO[/FILE]`; by default those that come with a package, see
            `weights.pretrained.PRETRAINED`.
        workdir: the run's folder; made if it is not there. If it holds the same import already,
            nothing is done.
        source: the library whose names the tensors have, such as `timm`; found out by default,
            from the names or from the repository.
        image_size: pixels that images are brought to, a square's side or (height, width); by
            default the one that the weights were trained for.
        fit: how images of other proportions are brought there, see `DataConfig.fit`. `pad` and
            `stretch` take the place of the weights' own crop.

    Returns:
        The run.

    Raises:
        InputError: the model is unknown, the weights cannot be read or do not fit it, their output
            layer has one class alone, or the folder holds something else. Nothing is written then.

    >>> import vision_jax
    >>> run = vision_jax.import_weights("efficientnet_lite0", workdir="runs/lite0")
    >>> run.info.image_shape, len(run.info.label_names)
    ((224, 224, 3), 1000)
    """
    check_choice(model, tuple(MODELS), "model")
    workdir = Path(workdir)
    if weights is None and model in PRETRAINED:
        source = PRETRAINED[model].source
    with _progress() as begin:
        begin("finding weights")
        path, origin = _find(model, weights)
        begin(f"reading {path.name}")
        tensors = read_tensors(path)
        found = load_weights(model, tensors, source=source, prefer=library_of(weights or ""))
        if found.options.get("num_classes") == 1:
            raise InputError(
                f"{path} has an output layer of width 1, which predicts one class for every image; "
                "at least 2 are needed, or a file without this layer, for an encoder"
            )
        told = WeightsConfig(origin, sha256_of(path), found.source)
        config = _config(model, found, told, image_size, fit)
        check_config(config, workdir)
        if has_checkpoint(workdir):
            return load_run(workdir)
        begin(f"writing {workdir}")
        return _write(config, found, workdir)


def _find(model: str, weights: str | Path | None) -> tuple[Path, str]:
    """Return the file that holds the weights, and what to call it."""
    if weights is None:
        return find_pretrained(model)
    if str(weights).startswith(HUB):
        return local_file(weights), str(weights)
    try:
        path = Path(weights).expanduser().absolute()
    except RuntimeError as error:  # there is no such user's home
        raise InputError(f"{weights} cannot be read: {error}") from error
    return path, str(path)


def _config(
    model: str, found: Weights, weights: WeightsConfig, image_size: Size | None, fit: Fit | None
) -> ImportedModel:
    wanted = found.preprocessing
    data = DataConfig(
        name="",
        image_size=wanted.image_size if image_size is None else image_size,
        fit=fit,
        crop=wanted.crop if fit in (None, "crop") else None,
        interpolation=wanted.interpolation,
        channels=len(wanted.mean),
        mean=wanted.mean,
        std=wanted.std,
    )
    options = {name: value for name, value in found.options.items() if name not in _TOLD}
    return ImportedModel(model=ModelConfig(model, options), weights=weights, data=data)


def _write(config: ImportedModel, found: Weights, workdir: Path) -> Run:
    """Check that the weights make a whole model, and write the run."""
    size, channels = sides(config.data.image_size or 0), config.data.channels or 0
    names = class_names(found.options.get("num_classes", 0))
    info = DataInfo((*size, channels), names, train_examples=0, steps_per_epoch=0)
    task, parallel = build_task(config, info), DataParallel.over()
    state = parallel.replicate(_state(task, config, info, found.variables))
    totals = {"images": jnp.zeros((), jnp.int32)}  # there is no epoch to resume
    with _removed_on_error(workdir), lock(workdir):
        write_config(config, workdir)
        with contextlib.closing(open_checkpoints(workdir, config, create=True)) as checkpoints:
            whole = parallel.to_all({"state": state, "totals": totals})
            checkpoints.save(0, **whole, about=describe(config, info), metrics={})
            checkpoints.wait()
    return Run(workdir, config, info, 0, task, state, parallel)


def _state(task: Task, config: ImportedModel, info: DataInfo, variables: Any) -> TrainState:
    """Put weights in the place of a new state's.

    Raises:
        InputError: the model does not take images of this size, or has other variables.
    """
    try:
        needed = jax.eval_shape(lambda: initial_state(task, config.seed, info.image_shape))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{config.model.name} does not take images of {info.image_shape}: {error}"
        ) from error
    held = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    there, wanted = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in _leaves(tree)}
        for tree in (held, needed.variables)
    )
    if there != wanted:
        name = min(there.items() ^ wanted.items())[0]
        raise InputError(
            f"the weights have {there.get(name)} at {name}; the model needs {wanted.get(name)}"
        )
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key(np.uint32(config.seed)),
        params=held["params"],
        stats=held["batch_stats"],
        opt_state=needed.opt_state,
        average={},
    )


def _leaves(tree: Any) -> Any:
    return jax.tree_util.tree_leaves_with_path(tree)


@contextlib.contextmanager
def _removed_on_error(workdir: Path) -> Iterator[None]:
    """Leave a folder as it was if the block fails."""
    before = {path.name for path in workdir.iterdir()} if workdir.is_dir() else None
    try:
        yield
    except BaseException:
        for path in list(workdir.iterdir()) if workdir.is_dir() else []:
            if path.name not in (before or ()):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if before is None and workdir.is_dir():
            workdir.rmdir()
        raise


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Show, once it takes seconds, what is being done."""
    with tqdm(total=_STEPS, unit="step", delay=2, leave=False) as bar:

        def begin(what: str) -> None:
            bar.set_description(what, refresh=False)
            bar.update()

        yield begin


_STEPS = 3
_TOLD = {"mean", "std", "dtype"}
