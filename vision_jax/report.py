"""Pictures of a run, and one HTML page that holds them."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib.figure import Figure
from PIL import Image

from vision_jax.epoch_sheets import FOLDER as EPOCHS
from vision_jax.evaluation import measure
from vision_jax.gallery import build_index, read_indexed
from vision_jax.generation import enlarged
from vision_jax.run import Run, load_run
from vision_jax.search import CosineIndex
from vision_jax.sheets import run_sheets
from vision_jax.training.metrics import Row, read_metrics

RIGHT, WRONG, NEUTRAL = "#1a7f37", "#cf222e", "#57606a"
_QUERIES, _NEIGHBOURS = 10, 8
_EPOCHS_SHOWN = 6
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


def search_grid(run: Run) -> Figure:
    """Draws test images with their nearest training images.

    Args:
        run: a trained network with labels.

    Returns:
        Ten queries, spread over the classes, with eight neighbours each.
    """
    gallery, queries = run.source(run.config.data.train_split), run.source()
    index = build_index(run, gallery)
    chosen = _spread_over_classes(queries.labels(), len(queries))
    asked = queries.read(chosen)
    images = np.stack([example["image"] for example in asked])
    scores, ids = index.search(run.embed(images), min(_NEIGHBOURS, len(index)))
    names = gallery.label_names
    found = [gallery.read(row.tolist()) for row in ids]

    def name(example: Any) -> str:
        return "" if names is None else names[example["label"]]

    return neighbour_grid(
        images,
        [name(example) for example in asked],
        [np.stack([example["image"] for example in row]) for row in found],
        [
            [f"{name(example)} {score:.2f}" for example, score in zip(row, line, strict=True)]
            for row, line in zip(found, scores, strict=True)
        ],
        [
            [None if names is None else e["label"] == example["label"] for e in row]
            for example, row in zip(asked, found, strict=True)
        ],
    )


def found_grid(
    index: CosineIndex,
    run: Run,
    images: UInt8[np.ndarray, "queries height width channels"],
    names: Sequence[str],
    scores: Float[np.ndarray, "queries k"],
    ids: Integer[np.ndarray, "queries k"],
) -> Figure:
    """Draws images with what a search found for them.

    Args:
        index: what was searched; its images are read again from where it was made.
        run: the network that made it.
        images: (Q, H, W, C) the images looked up.
        names: what to write beside each of them.
        scores: (Q, k) their neighbours' similarities.
        ids: (Q, k) their neighbours.

    Returns:
        One row per image looked up.

    Raises:
        InputError: the indexed images can no longer be read.
    """
    found = [index.metadata(line) for line in ids]
    pictures = iter(read_indexed(index, run, [row["key"] for rows in found for row in rows]))
    return neighbour_grid(
        images,
        names,
        [np.stack([next(pictures) for _ in rows]) for rows in found],
        [
            [f"{row.get('label', '')} {score:.2f}" for row, score in zip(rows, line, strict=True)]
            for rows, line in zip(found, scores, strict=True)
        ],
        [[None] * len(rows) for rows in found],
    )


def write_report(workdir: str | Path) -> Path:
    """Measures the best checkpoint of a run and writes `report.html` into its folder.

    Args:
        workdir: the run's folder.

    Returns:
        The page's path.

    Raises:
        InputError: the folder holds no run.
    """
    run = load_run(workdir)
    rows = read_metrics(run.workdir)
    figures = measure(run)
    data = run.config.data
    sections = [
        ("Learning curves", picture(learning_curves(rows))),
        (f"Figures on {data.name}, {data.test_split}", _figures_table(figures)),
    ]
    if run.config.family in ("autoencoder", "gan"):
        sections += _made_images(run)
    if "confusion" in figures:
        matrix = confusion_matrix(figures["confusion"], run.about.label_names or ())
        shares = [(n, f"{a:.4f}") for n, a in figures["per_class_accuracy"].items()]
        sections.append(("Confusion matrix", picture(matrix)))
        sections.append(("Accuracy by class", table(("class", "accuracy"), shares)))
    if "retrieval" in figures:
        sections.append(("Search", retrieval_table(figures["retrieval"])))
    sections.append(("Nearest images", _GRID_CAPTION + picture(search_grid(run))))
    sections.append(("Config", f"<pre>{html.escape(run.config.to_json())}</pre>"))
    path = run.workdir / "report.html"
    title = f"{run.config.family} on {data.name}, step {run.step}"
    write_page(path, title, sections)
    return path


def picture(figure: Figure) -> str:
    """A figure as an HTML image that needs no file beside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _image(buffer)


def sheet_picture(sheet: Image.Image, caption: str) -> str:
    """A sheet of images as an HTML image with a line below."""
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return f"<figure>{_image(buffer)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as an HTML table."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def retrieval_table(measured: dict[str, dict[str, float]]) -> str:
    """What `measure_retrieval` returned, as an HTML table."""
    columns = list(next(iter(measured.values())))
    rows = [(name, *(f"{row[c]:.4f}" for c in columns)) for name, row in measured.items()]
    return table(("searched by", *columns), rows)


def write_page(path: Path, title: str, sections: Sequence[tuple[str, str]]) -> None:
    """Writes headed HTML parts as one page, replacing an older one only once it is whole."""
    body = "".join(f"<h2>{html.escape(head)}</h2>{part}" for head, part in sections)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>{body}"
        "</body></html>\n",
        encoding="utf-8",
    )
    temporary.replace(path)


_GRID_CAPTION = (
    "<p>Test images at the left, each with its nearest training images and their cosine "
    "similarity: ✓ and green where the class is right, ✗ and red where it is not.</p>"
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
img { max-width: 100%; } pre { background: #f6f8fa; padding: 1em; overflow: auto; }
table { border-collapse: collapse; } td, th { padding: .2em .9em .2em 0; text-align: left; }
figure { margin: 0 0 1em; } figcaption { color: #57606a; }
.cells { display: flex; gap: .5em; font-size: 12px; } .cells figure { width: 112px; }
.row { display: flex; flex-wrap: wrap; gap: 1em; } .row figure { flex: 1 1 300px; }
.thumbs { display: flex; flex-wrap: wrap; gap: .6em; } .thumbs figure { width: 150px; }
.thumbs img { width: 110px; image-rendering: pixelated; border: 1px solid #d0d7de; }
.thumbs figcaption { font-size: 11px; line-height: 1.3; white-space: pre-wrap;
overflow-wrap: anywhere; }
tr { border-bottom: 1px solid #d0d7de; } td { font-variant-numeric: tabular-nums; }
"""


def _image(png: io.BytesIO) -> str:
    data = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'


def _made_images(run: Run) -> list[tuple[str, str]]:
    """What the network makes now, and what it made after some of the epochs before."""
    sheets, _ = run_sheets(run)
    now = "".join(sheet_picture(enlarged(sheet), _CAPTIONS[name]) for name, sheet in sheets.items())
    sections = [("What it makes", now)]
    for name in ("samples", "reconstructions"):
        paths = sorted((run.workdir / EPOCHS).glob(f"*-{name}.png"))
        chosen = np.unique(np.linspace(0, len(paths) - 1, min(_EPOCHS_SHOWN, len(paths))).round())
        row = ""
        for path in (paths[int(place)] for place in chosen):
            with Image.open(path) as sheet:
                row += sheet_picture(sheet, f"epoch {int(path.name.split('-')[0])}")
        if row:
            sections.append((f"{name.capitalize()} by epoch", f'<div class="row">{row}</div>'))
    return sections


_CAPTIONS = {
    "samples": "Samples: images made of random latents.",
    "nearest": "Samples above, the training image that each is most like below.",
    "reconstructions": "Test images above, their reconstructions below.",
    "interpolations": "From left to right: images on the way from one code to another.",
}


def _figures_table(figures: dict[str, Any]) -> str:
    rows = [
        (name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
        for name, value in figures.items()
        if isinstance(value, float | int)
    ]
    return table(("figure", "value"), rows)


def _spread_over_classes(
    labels: Float[np.ndarray, " n"] | Integer[np.ndarray, " n"] | None, count: int
) -> list[int]:
    """Positions of the queries to show: taking classes in turn, first come first served."""
    if labels is None:
        return list(range(min(_QUERIES, count)))
    rank = np.zeros(count, np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    return np.lexsort((labels, rank))[:_QUERIES].tolist()
