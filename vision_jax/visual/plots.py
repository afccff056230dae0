"""Plots with matplotlib: learning curves, confusion matrices, reliability."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vision_jax.files import replacing
from vision_jax.visual.fonts import families_for, fit_text, missing_glyphs_allowed
from vision_jax.visual.text import text_width

RIGHT, WRONG, NEUTRAL = "#1a7f37", "#cf222e", "#57606a"

_MAX_CELLS = 25  # classes up to which the numbers of a confusion matrix can be read
_LABEL = 10.0  # points
_NAME = 2.0  # inches that a class name may take beside an axis
_DPI = 110


def write_png(figure: Figure, target: Path | io.BytesIO, *, dpi: int = _DPI) -> None:
    """Write a figure as PNG; a file is written whole or not at all.

    Args:
        figure: what to draw.
        target: a path, or a buffer.
        dpi: pixels per inch.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(target, Path):
            target = stack.enter_context(replacing(target))
        stack.enter_context(missing_glyphs_allowed())
        figure.savefig(target, format="png", dpi=dpi)


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
        fonts: Any = {"family": list(families_for("".join(short)))}
        if max(map(text_width, short)) > 3:
            turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(names)), short, parse_math=False, **fonts, **turned)
        axes.set_yticks(range(len(names)), short, parse_math=False, **fonts)
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color, size=8)
    return figure


def reliability_diagram(bins: Mapping[str, np.ndarray]) -> Figure:
    """Plot accuracy against confidence, and how many images have which confidence.

    Args:
        bins: of equal width over [0, 1]: `images`, and the mean `confidence` and `accuracy` of
            those in each, NaN where there are none.

    Returns:
        Bars of accuracy with a mark at each bin's confidence, above bars of the images' shares.
    """
    images, count = bins["images"], len(bins["images"])
    edges, width = np.arange(count) / count, 1 / count
    filled = images > 0
    figure = Figure(figsize=(4.5, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    accuracy, confidence = bins["accuracy"][filled], bins["confidence"][filled]
    style = {"width": width, "align": "edge", "edgecolor": "white"}
    upper.bar(edges[filled], accuracy, color="#2a78b8", label="accuracy", **style)
    upper.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=1, linestyle="--", label="calibrated")
    places = edges[filled] + width / 2
    upper.plot(places, confidence, "_", color=WRONG, markersize=12, label="confidence")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(loc="upper left")
    lower.bar(edges, images / max(images.sum(), 1), color=NEUTRAL, **style)
    lower.set(xlabel="confidence", ylabel="images' share")
    return figure


def axis_names(names: Sequence[str]) -> list[str]:
    """Cut class names to what fits beside an axis."""
    return [fit_text(name, _NAME, _LABEL)[0] for name in names]
