"""What `measure` returned, as the heads and rows of tables to print or to show on a page."""

import math
from typing import Any

from vision_jax.run.folds import Spread

Rows = list[tuple[str, ...]]
Table = tuple[tuple[str, ...], Rows]


def metric_rows(metrics: dict[str, Any]) -> Table:
    """Tabulate the metrics that are single numbers."""
    rows: Rows = [
        (name.replace("_", " "), number(value))
        for name, value in metrics.items()
        if isinstance(value, float | int)
    ]
    return ("metric", "value"), rows


def class_rows(metrics: dict[str, Any]) -> Table:
    """Tabulate the metrics of each class, the lowest F1 first, classes without images last.

    A dash stands where there is nothing to measure.
    """
    classes: dict[str, dict[str, float | int]] = metrics["classes"]
    columns = next(iter(classes.values()))

    def order(name: str) -> tuple[bool, float]:
        f1 = classes[name]["f1"]
        return not classes[name]["images"], 1.0 if math.isnan(f1) else f1

    rows: Rows = [
        (name, *("-" if math.isnan(value) else number(value) for value in classes[name].values()))
        for name in sorted(classes, key=order)
    ]
    return ("class", *(column.replace("_", " ") for column in columns)), rows


def label_rows(metrics: dict[str, Any]) -> Table:
    """Tabulate the metrics of each label of several an image, the lowest F1 first.

    A dash stands where there is nothing to measure; such labels come last.
    """
    labels: dict[str, dict[str, float | int]] = metrics["labels"]

    def order(name: str) -> tuple[bool, float]:
        f1 = labels[name]["f1"]
        return math.isnan(f1), f1

    rows: Rows = [
        (name, *("-" if math.isnan(value) else number(value) for value in labels[name].values()))
        for name in sorted(labels, key=order)
    ]
    columns = next(iter(labels.values()))
    return ("label", *(column.replace("_", " ") for column in columns)), rows


def calibration_rows(before: dict[str, float], after: dict[str, Any]) -> Table:
    """Tabulate the metrics of probabilities without and with the run's temperature."""
    rows: Rows = [
        (name.replace("_", " "), number(value), number(after[name]))
        for name, value in before.items()
    ]
    return ("metric", "uncalibrated", "calibrated"), rows


def retrieval_rows(metrics: dict[str, Any]) -> Table:
    """Tabulate the retrieval metrics, a row for each kind of vector; a dash where one is left out.

    Args:
        metrics: whose `retrieval` is not empty.
    """
    measured = metrics["retrieval"]
    columns = list(dict.fromkeys(name for row in measured.values() for name in row))
    rows = [
        (kind, *(number(row[name]) if name in row else "-" for name in columns))
        for kind, row in measured.items()
    ]
    return ("search by", *columns), rows


def fold_rows(spreads: dict[str, Spread]) -> Table:
    """Tabulate metrics over folds: mean, deviation, and the value of each fold."""
    count = len(next(iter(spreads.values())).values)
    head = ("metric", "mean", "deviation", *(f"fold {i}" for i in range(1, count + 1)))
    rows: Rows = [
        (name.replace("_", " "), *map(number, (spread.mean, spread.deviation, *spread.values)))
        for name, spread in spreads.items()
    ]
    return head, rows


def number(value: float | int) -> str:
    """Format a metric: a float to four decimals, or to three digits if those would not show it."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
