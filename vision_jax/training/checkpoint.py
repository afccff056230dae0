"""Saving and restoring a run's state. Only this file names orbax."""

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from vision_jax.errors import InputError, RunError
from vision_jax.training import checksums as manifest

Which = Literal["best", "last"] | int

_LOGGER = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run: the latest two, and the best by a validation metric.

    Each step holds the SHA-256 of its files, written before the step gets its name: a step without
    them was not written to its end. A step that is not whole is never used; a warning names its
    fault. Who opens the folder to write into it (`create`) moves such steps into the folder
    `damaged` beside it, since they are in the way of the run that goes on.

    Args:
        folder: where the steps are kept, one folder each; created if `create`.
        metric: the name of the metric that ranks them; without one the last counts as the best.
        mode: whether more or less of it is better.
        create: whether to make the folder and write into it; else it must be there.

    Raises:
        InputError: the folder is not there, or it is opened to write and none of its steps is
            whole.
    """

    def __init__(
        self,
        folder: Path,
        *,
        metric: str | None,
        mode: Literal["max", "min"] = "max",
        create: bool = False,
    ) -> None:
        if not create and not folder.is_dir():
            raise InputError(f"{folder} does not exist; a folder of checkpoints is needed")
        self.folder = folder
        self._sign = 1.0 if mode == "max" else -1.0
        self._metric = metric
        self._faults: dict[int, str | None] = {}
        self._saving = -1
        self._reader = ocp.Checkpointer(ocp.CompositeCheckpointHandler(**_handlers()))
        self._manager: ocp.CheckpointManager | None = None
        if create:
            self._set_aside()
            self._manager = self._open_to_write()

    def _open_to_write(self) -> ocp.CheckpointManager:
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(n=2),
                # A run that was stopped within an epoch has a step without figures more.
                checkpoint_managers.BestN(
                    get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        return ocp.CheckpointManager(
            self.folder.absolute(),
            item_handlers=_handlers(),
            options=ocp.CheckpointManagerOptions(
                best_fn=self._score,
                best_mode="max",
                preservation_policy=keep,
                cleanup_tmp_directories=True,
                # Called once all files are written, before the folder gets the step's name.
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
            ),
        )

    def save(
        self, step: int, state: Any, totals: Any, about: dict[str, Any], figures: dict[str, float]
    ) -> None:
        """Saves a step in the background; the next save, or `close`, waits for it.

        Args:
            step: steps done.
            state: the run's state.
            totals: the running totals of an epoch that is not over.
            about: what a reader must know before it can build the state; JSON-able.
            figures: the validation figures by which checkpoints are ranked; may be empty.

        Raises:
            RunError: this or the save before it could not be written.
            ValueError: the folder was opened to read.
        """
        if self._manager is None:
            raise ValueError(f"{self.folder} was opened to read; create=True is needed to save")
        self.wait()
        self._saving = step
        self._faults.pop(step, None)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            totals=ocp.args.StandardSave(totals),
            about=ocp.args.JsonSave(about),
        )
        metrics = {n: v for n, v in figures.items() if n == self._metric} or None
        try:
            self._manager.save(step, args=args, metrics=metrics, force=True)
        except Exception as error:  # orbax raises many kinds for a failed write
            raise self._not_written(error) from error

    def find(self, which: Which = "last") -> int | None:
        """The step of a checkpoint, or None if there is none.

        Args:
            which: the best by the metric (the last if none was ranked), the last, or a step.

        Raises:
            InputError: there is no checkpoint of the step asked for, it is damaged, or all are.
        """
        self.wait()
        steps = self._steps()
        if isinstance(which, int):
            if which not in steps:
                raise InputError(f"{self.folder} has no step {which}; it has {steps}")
            if fault := self._fault(which):
                raise InputError(f"{fault}; a whole checkpoint is needed")
            return which
        order = sorted(steps, reverse=True)
        if which == "best":  # of equal ones the later, as those are kept
            order = sorted(order, key=self._rank, reverse=True)[:1] + order
        used = self._first_whole(order)
        for step in dict.fromkeys(order[: order.index(used)] if used is not None else []):
            _LOGGER.warning("%s; step %d is used instead", self._fault(step), used)
        return used

    def about(self, step: int) -> dict[str, Any]:
        """What was saved with a step for its reader.

        Raises:
            InputError: the checkpoint is damaged.
        """
        return self._read(step, about=ocp.args.JsonRestore())["about"]

    def restore(self, step: int, **targets: Any) -> dict[str, Any]:
        """Restores parts of a checkpoint.

        Args:
            step: a step that is there.
            targets: by part (`state`, `totals`), pytrees of `jax.ShapeDtypeStruct` with shardings.

        Returns:
            The pytrees by part, placed as the targets say.

        Raises:
            InputError: the checkpoint is damaged or does not fit the targets.
        """
        self.find(step)
        self._check_fits(step, targets)
        args = {part: ocp.args.StandardRestore(target) for part, target in targets.items()}
        return self._read(step, **args)

    def _read(self, step: int, **parts: Any) -> dict[str, Any]:
        self.find(step)
        try:
            return dict(self._reader.restore(self._path(step), ocp.args.Composite(**parts)).items())
        except Exception as error:  # orbax raises many kinds for damage
            raise InputError(
                f"{self.folder / str(step)} cannot be restored: {type(error).__name__}: {error}"
            ) from error

    def _check_fits(self, step: int, targets: dict[str, Any]) -> None:
        """Names the leaf that differs: orbax casts another dtype silently."""
        folder = self.folder / str(step)
        saved = self._reader.metadata(self._path(step)).item_metadata
        for part, target in targets.items():
            if saved.get(part) is None:
                raise InputError(f"{folder} lacks its {part}")
            there = {leaf.name: leaf for leaf in jax.tree.leaves(saved[part].tree)}
            paths = jax.tree_util.tree_flatten_with_path(target)[0]
            needed = {jax.tree_util.keystr(k, simple=True, separator="."): v for k, v in paths}
            for name in sorted(there.keys() | needed.keys()):
                found, wanted = _describe(there.get(name)), _describe(needed.get(name))
                if found != wanted:
                    raise InputError(f"{folder} holds {found} at {part}.{name}; needed: {wanted}")

    def wait(self) -> None:
        """Waits until what was saved is whole on disk.

        Raises:
            RunError: it could not be written.
        """
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # orbax raises many kinds for a failed write
            raise self._not_written(error) from error

    def close(self) -> None:
        """Waits for what is being saved, and closes."""
        if self._manager is not None:
            self._manager.close()
        self._reader.close()

    def _path(self, step: int) -> Path:
        return self.folder.absolute() / str(step)

    def _steps(self) -> list[int]:
        names = (
            [p.name for p in self.folder.iterdir() if p.is_dir()] if self.folder.is_dir() else []
        )
        return sorted(int(name) for name in names if name.isdecimal())

    def _fault(self, step: int) -> str | None:
        if step not in self._faults:
            self._faults[step] = manifest.fault(self.folder / str(step))
        return self._faults[step]

    def _rank(self, step: int) -> float:
        """The better a step by its figure the higher; a step whose figure is damaged first."""
        path = self.folder / str(step) / "metrics" / "metrics"
        if not path.is_file():
            return -math.inf
        try:
            return self._score(json.loads(path.read_bytes()))
        except (ValueError, AttributeError, TypeError):
            return math.inf

    def _first_whole(self, order: list[int]) -> int | None:
        used = next((step for step in order if not self._fault(step)), None)
        if order and used is None:
            faults = "; ".join(str(self._fault(step)) for step in dict.fromkeys(order))
            raise InputError(
                f"{self.folder} holds no whole checkpoint ({faults}); "
                "a copy of one is needed, or the folder's removal to start anew"
            )
        return used

    def _set_aside(self) -> None:
        """Moves damaged steps out of the way, if there is a whole one."""
        steps = self._steps()
        used = self._first_whole(steps[::-1])
        damaged = [step for step in steps if self._fault(step)]
        # Every process has looked before the first of them moves what they look at.
        _meet("looking at checkpoints")
        for step in damaged if jax.process_index() == 0 else []:
            target = self.folder.parent / "damaged" / str(step)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            self._path(step).rename(target)
            _LOGGER.warning(
                "%s; step %d is used instead, and %s holds the damaged one",
                *(self._fault(step), used, target),
            )
        _meet("setting checkpoints aside")
        self._faults = {step: fault for step, fault in self._faults.items() if not fault}

    def _write_manifest(self) -> None:
        if jax.process_index() == 0:
            (folder,) = self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
            manifest.write(folder)

    def _not_written(self, error: Exception) -> RunError:
        whole = [step for step in self._steps() if step != self._saving and not self._fault(step)]
        kept = f"step {whole[-1]} is kept" if whole else "no checkpoint is kept"
        reason = " ".join(str(error).split())
        return RunError(
            f"{self.folder / str(self._saving)} could not be written; {kept}. "
            f"{type(error).__name__}: {reason}"
        )

    def _score(self, metrics: dict[str, float]) -> float:
        # A figure that is not finite must lose: orbax would rank NaN above everything.
        (figure,) = metrics.values()
        value = self._sign * figure
        return value if math.isfinite(value) else -math.inf


def _meet(place: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def _handlers() -> dict[str, Any]:
    return {
        "state": ocp.StandardCheckpointHandler(),
        "totals": ocp.StandardCheckpointHandler(),
        "about": ocp.JsonCheckpointHandler(),
    }


def _describe(leaf: Any) -> str:
    """Shape and dtype of an array, as it is saved: keys as the numbers behind them."""
    if leaf is None:
        return "nothing"
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    return f"{leaf.dtype}{list(leaf.shape)}"
