"""Save and restore a run's state. Only this file imports orbax."""

import json
import logging
import math
import operator
import shutil
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.errors import DataWarning, InputError, RunError
from vision_jax.parallel import shards
from vision_jax.training.checksums import find_fault, write_manifest
from vision_jax.training.stored_state import read_state

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

Which = Literal["best", "last"] | SupportsIndex

_ABSL = logging.getLogger("absl")


class Checkpoints:
    """The checkpoints of one run: the latest two, and the best by a validation metric.

    Each checkpoint holds the SHA-256 of its files, written before its folder gets its final name.
    A damaged or incomplete checkpoint is never used; a `DataWarning` names the fault. With
    `create`, such checkpoints are moved to the folder `damaged` beside `folder`, so that a resumed
    run can save their steps again.

    Args:
        folder: folder of the checkpoints, one subfolder per step.
        metric: name of the validation metric that ranks checkpoints; None makes the last the best.
        mode: whether a higher or a lower metric is better.
        create: open for writing, and make the folder if it does not exist.

    Raises:
        InputError: the folder does not exist; or with `create`, all its checkpoints are damaged.
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
        _ABSL.addFilter(self._shows)
        self._manager: ocp.CheckpointManager | None = None
        if create:
            self._move_damaged()
            self._manager = self._open_to_write()

    @cached_property
    def _reader(self) -> "ocp.Checkpointer":  # reading weights takes less time than this import
        import orbax.checkpoint as ocp

        return ocp.Checkpointer(ocp.CompositeCheckpointHandler(handler_registry=_handlers()))

    def _open_to_write(self) -> "ocp.CheckpointManager":
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers

        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(n=2),
                # A run stopped within an epoch has a checkpoint without metrics.
                checkpoint_managers.BestN(
                    get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        return ocp.CheckpointManager(
            self.folder.absolute(),
            handler_registry=_handlers(),
            options=ocp.CheckpointManagerOptions(
                best_fn=self._score,
                best_mode="max",
                preservation_policy=keep,
                cleanup_tmp_directories=True,
                # Called once all files are written, before the folder gets its final name.
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
            ),
        )

    @property
    def ranking(self) -> tuple[str, Literal["max", "min"]] | None:
        """The metric that ranks checkpoints, and whether higher is better; None if none does."""
        if self._metric is None:
            return None
        return self._metric, "max" if self._sign > 0 else "min"

    def save(
        self, step: int, state: Any, totals: Any, about: dict[str, Any], metrics: dict[str, float]
    ) -> None:
        """Save a step in the background; the next `save`, `wait` or `close` waits for it.

        Args:
            step: steps done.
            state: the run's state.
            totals: running totals of the current epoch.
            about: what a reader needs before it can build the state; JSON-able.
            metrics: validation metrics, which rank checkpoints; may be empty.

        Raises:
            RunError: this save or the one before it failed.
            ValueError: the folder was opened without `create`.
        """
        import orbax.checkpoint as ocp

        if self._manager is None:
            raise ValueError(f"create is False for {self.folder}; saving needs create=True")
        self.wait()
        self._saving = step
        self._faults.pop(step, None)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            totals=ocp.args.StandardSave(totals),
            about=ocp.args.JsonSave(about),
        )
        # JSON has no NaN, and a checkpoint without metrics is never the best either.
        ranked = {n: v for n, v in metrics.items() if n == self._metric and math.isfinite(v)}
        try:
            self._manager.save(step, args=args, metrics=ranked or None, force=True)
        except Exception as error:  # orbax raises many types for a failed write
            raise self._save_error(error) from error

    def find(self, which: Which = "last") -> int | None:
        """Find the step of an intact checkpoint.

        A damaged `best` or `last` is replaced by the next intact one, with a warning.

        Args:
            which: the best by the metric (the last if none has the metric), the last, or a step.

        Returns:
            The step; None if there are no checkpoints.

        Raises:
            InputError: `which` is none of these, its checkpoint is missing or damaged, or all
                checkpoints are damaged.
        """
        self.wait()
        steps = self._steps()
        if which not in ("best", "last"):
            step = _step(which)
            if step not in steps:
                raise InputError(f"{self.folder} has no step {step}; it has {steps}")
            if fault := self._fault(step):
                raise InputError(f"{fault}; an intact checkpoint is needed")
            return step
        order = sorted(steps, reverse=True)
        if which == "best":  # the later one of equals, as in BestN
            order = sorted(order, key=self._rank, reverse=True)[:1] + order
        used = self._first_intact(order)
        for step in dict.fromkeys(order[: order.index(used)] if used is not None else []):
            message = f"{self._fault(step)}; step {used} is used instead"
            warnings.warn(message, DataWarning, stacklevel=2)
        return used

    def about(self, step: int) -> dict[str, Any]:
        """Return what `save` got as `about`.

        Raises:
            InputError: the checkpoint is missing or damaged.
        """
        self.find(step)
        try:
            about: dict[str, Any] = json.loads((self._path(step) / "about/metadata").read_bytes())
        except (OSError, ValueError) as error:
            raise self._restore_error(step, error) from error
        return about

    def restore(self, step: int, **targets: Any) -> dict[str, Any]:
        """Restore parts of a checkpoint.

        Args:
            step: the checkpoint's step.
            targets: pytrees of `jax.ShapeDtypeStruct` with shardings, by part (`state`, `totals`).

        Returns:
            The pytrees by part, sharded as the targets are. What was split over another number of
            devices, or over none, is laid out anew; each process then reads all of it.

        Raises:
            InputError: the checkpoint is missing or damaged, or does not match the targets.
        """
        self.find(step)
        if self._manager is None and jax.process_count() == 1:
            read = {part: read_state(self._path(step) / part, targets[part]) for part in targets}
            if all(state is not None for state in read.values()):
                return read
        import orbax.checkpoint as ocp

        saved = self._saved(step, targets)
        args = {
            part: ocp.args.StandardRestore(jax.tree.map(_readable, target, saved[part]))
            for part, target in targets.items()
        }
        try:
            read = self._reader.restore(self._path(step), ocp.args.Composite(**args))
        except Exception as error:  # orbax raises many types for damage
            raise self._restore_error(step, error) from error
        return {part: jax.tree.map(_placed, read[part], target) for part, target in targets.items()}

    def _restore_error(self, step: int, error: Exception) -> InputError:
        folder = self.folder / str(step)
        return InputError(f"{folder} cannot be restored: {type(error).__name__}: {error}")

    def _saved(self, step: int, targets: dict[str, Any]) -> dict[str, Any]:
        """Return the saved leaves' metadata, in the targets' structure.

        Raises:
            InputError: shapes or dtypes differ, leaf by leaf: orbax casts dtypes silently.
        """
        folder = self.folder / str(step)
        metadata, matched = self._reader.metadata(self._path(step)).item_metadata, {}
        for part, target in targets.items():
            if metadata.get(part) is None:
                raise InputError(f"{folder} has no {part}; a checkpoint with one is needed")
            held = {leaf.name: leaf for leaf in jax.tree.leaves(metadata[part].tree)}
            paths, structure = jax.tree_util.tree_flatten_with_path(target)
            needed = {jax.tree_util.keystr(k, simple=True, separator="."): v for k, v in paths}
            for name in sorted(held.keys() | needed.keys()):
                found, wanted = held.get(name), needed.get(name)
                if not (_describe(found) == _describe(wanted) or _fits(name, found, wanted)):
                    raise InputError(
                        f"{folder} holds {_describe(found)} at {part}.{name}; "
                        f"needed: {_describe(wanted)}"
                    )
            matched[part] = jax.tree.unflatten(structure, [held[name] for name in needed])
        return matched

    def wait(self) -> None:
        """Wait until the last save is complete on disk.

        Raises:
            RunError: the save failed.
        """
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # orbax raises many types for a failed write
            raise self._save_error(error) from error

    def close(self) -> None:
        """Wait for the last save, and release orbax's resources."""
        if self._manager is not None:
            self._manager.close()
        if "_reader" in vars(self):
            self._reader.close()
        _ABSL.removeFilter(self._shows)

    def _shows(self, record: logging.LogRecord) -> bool:
        """Hide what orbax logs: its errors are raised too, and its warnings concern no user.

        To debug, set absl's level to INFO or lower; then all of it is shown.
        """
        return _ABSL.isEnabledFor(logging.INFO) or "orbax" not in Path(record.pathname).parts

    def _path(self, step: int) -> Path:
        return self.folder.absolute() / str(step)

    def _steps(self) -> list[int]:
        names = (
            [p.name for p in self.folder.iterdir() if p.is_dir()] if self.folder.is_dir() else []
        )
        return sorted(int(name) for name in names if name.isdecimal())

    def _fault(self, step: int) -> str | None:
        if step not in self._faults:
            self._faults[step] = find_fault(self.folder / str(step))
        return self._faults[step]

    def _rank(self, step: int) -> float:
        """Sort key: a better metric ranks higher; unreadable metrics rank first."""
        path = self.folder / str(step) / "metrics" / "metrics"
        if not path.is_file():
            return -math.inf
        try:
            return self._score(json.loads(path.read_bytes()))
        except (ValueError, AttributeError, TypeError):
            return math.inf

    def _first_intact(self, order: list[int]) -> int | None:
        used = next((step for step in order if not self._fault(step)), None)
        if order and used is None:
            faults = "; ".join(str(self._fault(step)) for step in dict.fromkeys(order))
            raise InputError(
                f"{self.folder} holds no intact checkpoint ({faults}); restore one from a backup, "
                "or remove the folder to start over"
            )
        return used

    def _move_damaged(self) -> None:
        """Move damaged checkpoints to `damaged`, if there is an intact one."""
        steps = self._steps()
        used = self._first_intact(steps[::-1])
        damaged = [step for step in steps if self._fault(step)]
        # Process 0 moves folders only after all processes have checked them.
        _barrier("checking checkpoints")
        messages = []
        for step in damaged if jax.process_index() == 0 else []:
            target = self.folder.parent / "damaged" / str(step)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            self._path(step).rename(target)
            messages.append(f"{self._fault(step)}; it is moved to {target}; step {used} is used")
        _barrier("moving damaged checkpoints")
        for message in messages:
            warnings.warn(message, DataWarning, stacklevel=3)
        self._faults = {step: fault for step, fault in self._faults.items() if not fault}

    def _write_manifest(self) -> None:
        if jax.process_index() == 0:
            (folder,) = self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
            write_manifest(folder)

    def _save_error(self, error: Exception) -> RunError:
        intact = [step for step in self._steps() if step != self._saving and not self._fault(step)]
        kept = f"step {intact[-1]} is kept" if intact else "no checkpoint is kept"
        reason = " ".join(str(error).split())
        return RunError(
            f"{self.folder / str(self._saving)} could not be written; {kept}. "
            f"{type(error).__name__}: {reason}"
        )

    def _score(self, metrics: dict[str, float]) -> float:
        # Earlier versions saved NaN, which orbax would rank above everything.
        (metric,) = metrics.values()
        value = self._sign * metric
        return value if math.isfinite(value) else -math.inf


def _step(which: Any) -> int:
    """Return a step as an `int`, from NumPy's integers too."""
    try:
        return operator.index(which)
    except TypeError:
        raise InputError(f"which is {which!r}; 'best', 'last' or a step is needed") from None


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def _handlers() -> "ocp.DefaultCheckpointHandlerRegistry":
    import orbax.checkpoint as ocp

    return ocp.handlers.create_default_handler_registry(
        state=ocp.StandardCheckpointHandler(),
        totals=ocp.StandardCheckpointHandler(),
        about=ocp.JsonCheckpointHandler(),
        metrics=ocp.JsonCheckpointHandler("metrics"),
    )


def _fits(name: str, found: Any, wanted: Any) -> bool:
    """Whether a leaf is one that devices may share, laid out in another way."""
    return (
        name.startswith(("opt_state.", "average."))
        and None not in (found, wanted)
        and found.dtype == wanted.dtype
        and shards.can_lay_out(tuple(found.shape), wanted.shape)
    )


def _readable(target: Any, saved: Any) -> Any:
    """Return what to read for a target: the host's array where it is to be laid out anew."""
    if _describe(saved) == _describe(target):
        return target
    return np.empty(saved.shape, saved.dtype)


def _placed(read: Any, target: Any) -> Any:
    if not isinstance(read, np.ndarray):
        return read
    rows = shards.laid_out(read, target.shape)
    return jax.make_array_from_callback(target.shape, target.sharding, lambda index: rows[index])


def _describe(leaf: Any) -> str:
    """Describe an array as it is saved: keys by their underlying data."""
    if leaf is None:
        return "nothing"
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    return f"{leaf.dtype}{list(leaf.shape)}"
