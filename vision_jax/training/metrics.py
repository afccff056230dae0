"""Figures of a run: merged exactly, written as JSON lines and TensorBoard events."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from vision_jax.tasks.state import Metrics

Row = dict[str, Any]


def compute(totals: Metrics) -> dict[str, Any]:
    """Turns merged totals into figures.

    Args:
        totals: what a task's steps returned, added up.

    Returns:
        A float for each `(total, count)`, NaN where nothing was counted; a host array for the rest.
    """
    figures: dict[str, Any] = {}
    for name, value in totals.items():
        if isinstance(value, tuple):
            total, count = (float(np.asarray(part)) for part in value)
            figures[name] = total / count if count else math.nan
        else:
            figures[name] = np.asarray(value)
    return figures


def per_class_accuracy(
    confusion: Integer[np.ndarray, "classes classes"],
) -> Float[np.ndarray, " classes"]:
    """The share of each class's examples that were recognised (recall).

    Args:
        confusion: rows are true classes, columns predicted ones.

    Returns:
        (classes,) in [0, 1]; NaN for a class without examples.
    """
    counts = confusion.sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, np.diag(confusion) / counts, np.nan)


class MetricsLog:
    """Appends rows of figures to `metrics.jsonl` and TensorBoard events in a folder.

    The JSON lines hold only what a repeated run would give again; speeds go to TensorBoard alone.

    Args:
        folder: the run's folder.
        step: the step that the run is at; rows of later steps, from a run that was cut off after
            its last checkpoint, are removed.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        from tensorboardX import SummaryWriter

        self.path = folder / "metrics.jsonl"
        kept = [row for row in read_metrics(folder) if row["step"] <= step]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(_line(row) for row in kept))
        temporary.replace(self.path)
        self._events = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def __call__(self, row: Row, speeds: dict[str, float] | None = None) -> None:
        """Writes one row.

        Args:
            row: `step`, and figures by name such as `train/loss`.
            speeds: figures that differ from run to run, such as `images_per_second`.
        """
        with self.path.open("a") as file:
            file.write(_line(row))
        for name, value in {**row, **(speeds or {})}.items():
            if isinstance(value, float):
                self._events.add_scalar(name, value, row["step"])
        self._events.flush()

    def close(self) -> None:
        """Closes the TensorBoard events."""
        self._events.close()


def read_metrics(folder: Path) -> list[Row]:
    """Reads the rows of a run; a last line that a crash cut short is left out.

    Args:
        folder: the run's folder.

    Returns:
        The rows, oldest first; none if there is no file.
    """
    path = folder / "metrics.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
