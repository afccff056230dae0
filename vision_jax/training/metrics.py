"""A run's metrics: exact averages, written as JSON lines and TensorBoard events."""

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.errors import DataWarning
from vision_jax.files import write_text
from vision_jax.tasks.state import Metrics
from vision_jax.training.confusion import average_scores
from vision_jax.training.label_scores import label_averages

Row = dict[str, Any]
"""One epoch's metrics: `step`, `epoch`, and numbers by name, such as `train/loss`."""

FILE = "metrics.jsonl"
_LINES_NAMED = 5


def compute(totals: Metrics) -> dict[str, Any]:
    """Compute metrics from merged totals.

    Args:
        totals: the sum of what a task's steps returned.

    Returns:
        A float for each `(total, count)`, NaN for a count of 0, but what `label_averages` makes
        of `label_counts`; a host array for the rest; and
        with a `confusion` the `balanced_accuracy` and `macro_f1` of `average_scores`.
    """
    metrics: dict[str, Any] = {}
    for name, value in totals.items():
        if isinstance(value, tuple):
            total, count = (float(np.asarray(part)) for part in value)
            metrics[name] = total / count if count else math.nan
        else:
            metrics[name] = np.asarray(value)
    if "confusion" in metrics:
        averages = average_scores(metrics["confusion"])
        metrics |= {name: averages[name] for name in ("balanced_accuracy", "macro_f1")}
    if "label_counts" in metrics:
        metrics |= label_averages(metrics.pop("label_counts"))
    return metrics


class MetricsLog:
    """Append rows of metrics to `metrics.jsonl`, and to TensorBoard events in the same folder.

    The JSON lines hold only what a rerun would reproduce; speeds go to TensorBoard alone.

    Args:
        folder: the run's folder. If its `metrics.jsonl` has damaged lines, they are removed, and
            the file as it was is kept as `damaged/metrics.jsonl`.
        step: the step from which the run resumes. Rows of later steps, written after the last
            checkpoint, are removed: the run will write them again.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        from tensorboardX import SummaryWriter

        self.path = folder / FILE
        rows, damaged = _parse(self.path)
        if damaged:
            copy = folder / "damaged" / FILE
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(self.path, copy)
            _warn(self.path, damaged, f"; {copy} keeps the file as it was")
        write_text(self.path, "".join(_line(row) for row in rows if row["step"] <= step))
        self._events = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def __call__(self, row: Row, speeds: dict[str, float] | None = None) -> None:
        """Write one row.

        Args:
            row: see `Row`.
            speeds: values that differ from run to run, such as `images_per_second`.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        for name, value in {**row, **(speeds or {})}.items():
            if isinstance(value, float):
                self._events.add_scalar(name, value, row["step"])
        self._events.flush()

    def close(self) -> None:
        """Close the TensorBoard events."""
        self._events.close()


def read_metrics(folder: Path) -> list[Row]:
    """Read the rows of a run.

    A damaged line is skipped, with a `DataWarning` that gives its number. A last line that a crash
    cut short is skipped silently.

    Args:
        folder: the run's folder.

    Returns:
        The rows, oldest first; empty if there is no file.
    """
    path = folder / FILE
    rows, damaged = _parse(path)
    if damaged:
        _warn(path, damaged)
    return rows


def _parse(path: Path) -> tuple[list[Row], list[int]]:
    """Return the rows of a file, and the numbers of its damaged lines, counted from 1."""
    if not path.is_file():
        return [], []
    # Each line on its own, so that a byte that is not UTF-8 costs one row.
    *lines, unfinished = path.read_bytes().split(b"\n")
    rows, damaged = list[Row](), list[int]()
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif line.strip():
            damaged.append(number)
    last = _row(unfinished)
    return rows + ([] if last is None else [last]), damaged


def _row(line: bytes) -> Row | None:
    """Return a line's row; None if it is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or {type(row.get(name)) for name in ("step", "epoch")} != {int}:
        return None
    # JSON has no NaN: it is written as null.
    row = {name: math.nan if value is None else value for name, value in row.items()}
    return row if all(type(value) in (int, float) for value in row.values()) else None


def _line(row: Row) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def _warn(path: Path, damaged: list[int], kept: str = "") -> None:
    named = ", ".join(map(str, damaged[:_LINES_NAMED]))
    more = len(damaged) - _LINES_NAMED
    if len(damaged) == 1:
        told = f"line {named} is damaged and skipped"
    else:
        told = f"lines {named}{f' and {more} more' if more > 0 else ''} are damaged and skipped"
    warnings.warn(f"{path}: {told}{kept}", DataWarning, stacklevel=3)
