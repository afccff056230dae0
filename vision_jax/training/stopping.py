"""Validation metrics: which is better, and when training stops for want of improvement."""

import dataclasses
import math
from typing import Any, Literal

import jax
import numpy as np

from vision_jax.data.loader import blank_batch
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.base import Judges, Task
from vision_jax.training.metrics import compute

Mode = Literal["max", "min"]

DIRECTIONS: dict[str, Mode] = {
    "loss": "min",
    "accuracy": "max",
    "top5_accuracy": "max",
    "balanced_accuracy": "max",
    "macro_f1": "max",
    "micro_f1": "max",
    "mean_average_precision": "max",
    "mean_squared_error": "min",
    "map@r": "max",
    "recall@1": "max",
}
"""Metrics that tell better weights from worse, and whether the highest or the lowest is best."""

_RECORD = "early_stopping"


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """When to stop: after some epochs without improvement of a validation metric.

    Attributes:
        patience: epochs without improvement after which training stops, at least 1.
        min_delta: what a metric must gain over the best one to count as improved, at least 0.
        metric: a key of `DIRECTIONS`; by default the one that chooses the task's best checkpoint.
        since: epochs done before they begin to count, such as those before a run was extended.
    """

    patience: int
    min_delta: float = 0.0
    metric: str | None = None
    since: int = 0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise InputError(f"early_stopping is {self.patience}; it must be at least 1")
        if not 0 <= self.min_delta < math.inf:
            raise InputError(f"min_delta is {self.min_delta}; it must be at least 0 and finite")


class Watch:
    """Counts the epochs in which a metric has not improved.

    Args:
        rule: when to stop; None never does.
        metric: the metric's name in what an evaluation returns, and whether higher is better; None
            only without a rule.
        epoch: epochs done.
        record: what `record` returned when the last checkpoint was saved; empty at the start.
    """

    def __init__(
        self,
        rule: EarlyStopping | None,
        metric: tuple[str, Mode] | None,
        epoch: int,
        record: dict[str, Any],
    ) -> None:
        if rule is not None and metric is None:
            raise InputError("early_stopping needs a metric; the task has none that tells the best")
        self._rule, self._epoch = rule, epoch
        self._metric, self._mode = metric or ("", "max")
        held = record.get(_RECORD, {})
        if held.get("metric", self._metric) != self._metric:
            held = {}
        self._best: float | None = held.get("best")
        self._best_epoch: int = held.get("epoch", 0)
        self._stale: int = held.get("stale", 0)
        if rule is not None and epoch <= rule.since:
            self._stale = 0

    def see(self, metrics: dict[str, float], epoch: int) -> None:
        """Take in the metrics of an evaluation; one that is not finite is no improvement."""
        self._epoch, value = epoch, metrics.get(self._metric, math.nan)
        if self._improved(value):
            self._best, self._best_epoch, self._stale = value, epoch, 0
        elif self._rule is not None:
            self._stale += 1

    def _improved(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self._best is None:
            return True
        gain = value - self._best if self._mode == "max" else self._best - value
        return gain > (self._rule.min_delta if self._rule else 0)

    @staticmethod
    def stopped(record: dict[str, Any], patience: int) -> bool:
        """Whether what `record` returned is that of a run that stopped early."""
        return bool(record.get(_RECORD, {}).get("stale", 0) >= patience)

    @property
    def record(self) -> dict[str, Any]:
        """What must be saved to resume or to be extended; empty without a metric."""
        if not self._metric:
            return {}
        held = {"best": self._best, "epoch": self._best_epoch, "stale": self._stale}
        return {_RECORD: held | {"metric": self._metric}}

    @property
    def reason(self) -> str | None:
        """Why training stops; None while it goes on."""
        if self._rule is None or self._stale < self._rule.patience:
            return None
        best = "was never finite"
        if self._best is not None:
            delta = self._rule.min_delta
            by = f" by more than {delta:g}" if delta else ""
            best = (
                f"has not improved{by} for {self._stale} epochs; the best, {self._best:.4g}, is "
                f"that of epoch {self._best_epoch}"
            )
        return f"after epoch {self._epoch}: validation/{self._metric} {best}"


def ranking(task: Task, metric: str | None) -> tuple[str, Mode] | None:
    """Return the metric that ranks a task's checkpoints, and whether higher is better.

    Args:
        task: what is trained, or its class.
        metric: a key of `DIRECTIONS`; None for the task's own.
    """
    return task.best_metric if metric is None else (metric, DIRECTIONS[metric])


def check_metric(
    task: Task, metric: str | None, image_shape: tuple[int, int, int], name: str
) -> None:
    """Refuse a metric that a task's evaluation does not report.

    Args:
        task: what is trained.
        metric: the metric; None for the task's own.
        image_shape: (height, width, channels).
        name: what to call the metric in messages.

    Raises:
        InputError: it does not; the message lists those that it reports.
    """
    if metric is None:
        return
    if isinstance(task, Judges):
        choices = list(task.judged)
    else:
        choices = _reported(task, image_shape)
    if metric not in choices:
        raise InputError(f"{name} is {metric!r}; it must be one of {', '.join(choices)}")


def check_judged(task: Task, validation: Source, name: str) -> None:
    """Refuse to be told the best by a search among images without one label each.

    Args:
        task: what is trained.
        validation: the images to validate on.
        name: what to call in messages that needs the metric.

    Raises:
        InputError: the task is judged by such a search, which then has no metric.
    """
    if isinstance(task, Judges) and validation.label_names is None:
        raise InputError(
            f"{validation.name}, to validate on, has no single label for each image; {name} needs "
            "one, since its metric is that of a search"
        )


def _reported(task: Task, image_shape: tuple[int, int, int]) -> list[str]:
    """List the metrics of `DIRECTIONS` that a task's evaluation reports."""
    model: Any = getattr(task, "model", None)
    labels = model.num_classes if task.needs.multi_label else None
    blank = blank_batch(image_shape, labels=labels)
    batch = jax.tree.map(lambda rows: rows[None], blank)
    state = jax.eval_shape(lambda: task.init(jax.random.key(0), blank))
    step = jax.vmap(task.eval_step, (None, 0), out_axes=None, axis_name=AXIS)
    reported = jax.eval_shape(step, state, batch)
    figures = compute(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), reported))
    return [each for each in DIRECTIONS if isinstance(figures.get(each), float)]
