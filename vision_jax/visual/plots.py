"""Plots with matplotlib: learning curves, confusion matrices, neighbours."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from vision_jax.files import replacing
from vision_jax.visual.text import shorten, text_width

RIGHT, WRONG, NEUTRAL = "#1a7f37", "#cf222e", "#57606a"

Pictures = UInt8[np.ndarray, "_ height width channels"]

_MAX_CELLS = 25  # classes up to which the numbers of a confusion matrix can be read
_CELL = 1.15  # inches that an image of a grid takes
_TITLE, _LABEL = 7.0, 10.0  # points
_NAME = 2.0  # inches that a class name may take beside an axis
_DPI = 110


def write_png(figure: Figure, target: Path | io.BytesIO) -> None:
    """Write a figure as PNG; a file is written whole or not at all.

    Args:
        figure: what to draw.
        target: a path, or a buffer.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(target, Path):
            target = stack.enter_context(replacing(target))
        stack.enter_context(_missing_glyphs_allowed())
        figure.savefig(target, format="png", dpi=_DPI)


def learning_curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plot each metric over the epochs, training and validation together.

    Args:
        rows: one per epoch, such as `read_metrics` returns: `epoch`, and metrics such as
            `train/loss` and `validation/loss`.

    Returns:
        One panel per metric, three in a row, the loss first.
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
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion_matrix(
    confusion: Integer[np.ndarray, "classes classes"], names: Sequence[str]
) -> Figure:
    """Plot which class each image was taken for, as shares of its true class.

    Args:
        confusion: rows are true classes, columns predicted ones.
        names: the classes.

    Returns:
        The matrix; with names and counts where there are few enough to read.
    """
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = min(3 + 0.45 * len(names), 14)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if len(names) <= _MAX_CELLS:
        short = axis_names(names)
        turned: dict[str, Any] = {}
        if max(map(text_width, short)) > 3:
            turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(names)), short, parse_math=False, **turned)
        axes.set_yticks(range(len(names)), short, parse_math=False)
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color, size=8)
    return figure


def axis_names(names: Sequence[str]) -> list[str]:
    """Cut class names to what fits beside an axis."""
    return [_fit(name, _NAME, _LABEL) for name in names]


def neighbour_grid(
    queries: Pictures,
    query_titles: Sequence[str],
    neighbours: Sequence[Pictures],
    titles: Sequence[Sequence[str]],
    right: Sequence[Sequence[bool | None]],
) -> Figure:
    """Draw each query to the left of its nearest images, right ones green and wrong ones red.

    Args:
        queries: (Q, H, W, C) uint8.
        query_titles: what to write above each query.
        neighbours: for each query, its (k, H, W, C) neighbours, best first.
        titles: what to write above each neighbour; lines that do not fit are cut.
        right: whether each neighbour has the query's class; None where that is unknown.

    Returns:
        Q rows of 1 + k images.
    """
    columns = 1 + max(len(row) for row in neighbours)
    lines = max(text.count("\n") + 1 for row in (query_titles, *titles) for text in row)
    size = (_CELL * columns, (_CELL + 0.08 + 0.12 * lines) * len(queries))
    figure = Figure(figsize=size, layout="constrained")
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
    """Draw one image with a title and a coloured frame."""
    axes.axis("on")
    axes.set(xticks=[], yticks=[])
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    text = "\n".join(_fit(line, 0.95 * _CELL, _TITLE) for line in title.split("\n"))
    axes.set_title(text, size=_TITLE, color=color, parse_math=False)  # file names may hold a $
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=2.5)


@lru_cache(maxsize=4096)
def _fit(line: str, inches: float, points: float) -> str:
    """Cut a line to a width, as matplotlib draws it at a size."""
    font = FontProperties(size=points)

    def measure(text: str) -> float:
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
        return float(width)

    with _missing_glyphs_allowed():
        return shorten(line, 72 * inches, measure)


@contextlib.contextmanager
def _missing_glyphs_allowed() -> Iterator[None]:
    """Silence warnings of glyphs that the font lacks: boxes are drawn for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield
