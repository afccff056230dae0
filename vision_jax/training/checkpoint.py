"""Saving and restoring a run's state. Only this file names orbax."""

import math
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vision_jax.errors import InputError

Which = Literal["best", "last"] | int


class Checkpoints:
    """The checkpoints of one run: the latest two, and the best by a validation metric.

    Args:
        folder: where the steps are kept, one folder each; created if `create`.
        metric: the name of the metric that ranks them; without one the last counts as the best.
        mode: whether more or less of it is better.
        create: whether to make the folder; else it must be there.

    Raises:
        InputError: the folder is not there.
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
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(n=2),
                checkpoint_managers.BestN(get_metric_fn=self._score, n=1),
            ]
        )
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            # Without them a manager that has saved nothing itself cannot read what a step holds.
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "totals": ocp.StandardCheckpointHandler(),
                "about": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                best_fn=self._score, best_mode="max", preservation_policy=keep
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
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                totals=ocp.args.StandardSave(totals),
                about=ocp.args.JsonSave(about),
            ),
            metrics={n: v for n, v in figures.items() if n == self._metric} or None,
            force=True,
        )

    def find(self, which: Which = "last") -> int | None:
        """The step of a checkpoint, or None if there is none.

        Args:
            which: the best by the metric (the last if none was ranked), the last, or a step.

        Raises:
            InputError: there is no checkpoint of the step asked for.
        """
        self._manager.wait_until_finished()
        steps = sorted(self._manager.all_steps())
        if isinstance(which, int):
            if which not in steps:
                raise InputError(f"{self.folder} has no step {which}; it has {steps}")
            return which
        best = self._manager.best_step() if which == "best" else None
        return best if best is not None else (steps[-1] if steps else None)

    def about(self, step: int) -> dict[str, Any]:
        """What was saved with a step for its reader."""
        args = ocp.args.Composite(about=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["about"]

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
        args = ocp.args.Composite(
            **{part: ocp.args.StandardRestore(target) for part, target in targets.items()}
        )
        self._check_fits(step, targets)
        try:
            return dict(self._manager.restore(step, args=args).items())
        except Exception as error:  # orbax raises many kinds for damage
            raise InputError(
                f"{self.folder / str(step)} cannot be restored: {type(error).__name__}: {error}"
            ) from error

    def _check_fits(self, step: int, targets: dict[str, Any]) -> None:
        """Names the leaf that differs: orbax casts another dtype silently."""
        self.wait()
        saved, folder = self._manager.item_metadata(step), self.folder / str(step)
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
        """Waits until what was saved is whole on disk; raises what went wrong."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.close()

    def _score(self, metrics: dict[str, float]) -> float:
        # A figure that is not finite must lose: orbax would rank NaN above everything.
        (figure,) = metrics.values()
        value = self._sign * figure
        return value if math.isfinite(value) else -math.inf


def _describe(leaf: Any) -> str:
    """Shape and dtype of an array, as it is saved: keys as the numbers behind them."""
    if leaf is None:
        return "nothing"
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    return f"{leaf.dtype}{list(leaf.shape)}"
