"""What `measure` returned, as the heads and rows of tables to print or to show on a page."""

import math
from typing import Any

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
    """Tabulate the accuracy of each class."""
    rows: Rows = [
        (name, "no images" if math.isnan(share) else number(share))
        for name, share in metrics["per_class_accuracy"].items()
    ]
    return ("class", "accuracy"), rows


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


def number(value: float | int) -> str:
    """Format a metric: a float to four decimals, or to three digits if those would not show it."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
