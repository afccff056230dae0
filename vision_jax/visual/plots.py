"""Plots with matplotlib: curves, confusion matrices, neighbours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8
from matplotlib.figure import Figure

from vision_jax.training.metrics import Row

RIGHT, WRONG, NEUTRAL = "#1a7f37", "#cf222e", "#57606a"


_MAX_CELLS = 25  # classes up to which a confusion matrix's numbers can be read


Pictures = UInt8[np.ndarray, "_ height width channels"]


def learning_curves(rows: Sequence[Row]) -> Figure:
    """Draws each figure over the epochs, training and validation in one plot.

    Args:
        rows: what `read_metrics` returned.

    Returns:
        One panel per figure, three in a row.
    """
    names = sorted(
        {key.split("/", 1)[1] for row in rows for key in row if "/" in key},
        key=lambda name: (name != "loss", name),
    )
    columns, lines = min(max(len(names), 1), 3), max(-(-len(names) // 3), 1)
    figure = Figure(figsize=(4.5 * columns, 3.2 * lines), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(lines, columns, place)
        for part in ("train", "validation"):
            points = [(r["epoch"], r[key]) for r in rows if (key := f"{part}/{name}") in r]
            if points:
                axes.plot(*zip(*points, strict=True), label=part, marker=".", linewidth=1.5)
        axes.set(title=name.replace("_", " "), xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion_matrix(
    confusion: Integer[np.ndarray, "classes classes"], names: Sequence[str]
) -> Figure:
    """Draws how often each class was taken for each, as shares of the true class.

    Args:
        confusion: rows are true classes, columns predicted ones.
        names: the classes.

    Returns:
        The matrix; with its counts where there are few enough to read.
    """
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = min(3 + 0.45 * len(names), 14)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if len(names) <= _MAX_CELLS:
        turned: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(names)), names, parse_math=False, **turned)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color, size=8)
    return figure


def neighbour_grid(
    queries: Pictures,
    query_titles: Sequence[str],
    neighbours: Sequence[Pictures],
    titles: Sequence[Sequence[str]],
    right: Sequence[Sequence[bool | None]],
) -> Figure:
    """Draws each query at the left of its nearest images, right ones green and wrong ones red.

    Args:
        queries: (Q, H, W, C) uint8.
        query_titles: a line above each query.
        neighbours: for each query, its (k, H, W, C) neighbours, best first.
        titles: a line above each neighbour.
        right: whether each neighbour is of the query's class; None where that is unknown.

    Returns:
        Q rows of 1 + k images.
    """
    columns = 1 + max(len(row) for row in neighbours)
    figure = Figure(figsize=(1.15 * columns, 1.35 * len(queries)), layout="constrained")
    grid = figure.subplots(len(queries), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for row, axes in enumerate(grid):
        show_image(axes[0], queries[row], query_titles[row], NEUTRAL)
        for place, image in enumerate(neighbours[row]):
            verdict = right[row][place]
            color = NEUTRAL if verdict is None else RIGHT if verdict else WRONG
            mark = "" if verdict is None else "✓ " if verdict else "✗ "
            show_image(axes[1 + place], image, mark + titles[row][place], color)
    return figure


def show_image(axes: Any, image: UInt8[np.ndarray, "h w c"], title: str, color: str) -> None:
    """Draws one image with a title and a frame of a colour."""
    axes.axis("on")
    axes.set(xticks=[], yticks=[])
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, size=7, color=color, parse_math=False)  # names of files may hold a $
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=2.5)
