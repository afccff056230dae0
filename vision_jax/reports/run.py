"""Pictures of a run, and one HTML page that holds them."""

import html
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vision_jax.evaluation.measure import measure
from vision_jax.reports.generated import run_sheets
from vision_jax.reports.searches import search_grid
from vision_jax.run.epoch_images import FOLDER as EPOCHS
from vision_jax.run.run import Run, load_run
from vision_jax.training.metrics import read_metrics
from vision_jax.visual.grids import enlarged
from vision_jax.visual.html import picture, sheet_picture, table, write_page
from vision_jax.visual.plots import confusion_matrix, learning_curves

_EPOCHS_SHOWN = 6


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
    if run.config.name in ("autoencoder", "gan"):
        sections += _made_images(run)
    if "confusion" in figures:
        matrix = confusion_matrix(figures["confusion"], run.info.label_names or ())
        shares = [(n, f"{a:.4f}") for n, a in figures["per_class_accuracy"].items()]
        sections.append(("Confusion matrix", picture(matrix)))
        sections.append(("Accuracy by class", table(("class", "accuracy"), shares)))
    if "retrieval" in figures:
        sections.append(("Search", retrieval_table(figures["retrieval"])))
    sections.append(("Nearest images", _GRID_CAPTION + picture(search_grid(run))))
    sections.append(("Config", f"<pre>{html.escape(run.config.to_json())}</pre>"))
    path = run.workdir / "report.html"
    title = f"{run.config.name} on {data.name}, step {run.step}"
    write_page(path, title, sections)
    return path


def retrieval_table(measured: dict[str, dict[str, float]]) -> str:
    """What `measure_retrieval` returned, as an HTML table."""
    columns = list(next(iter(measured.values())))
    rows = [(name, *(f"{row[c]:.4f}" for c in columns)) for name, row in measured.items()]
    return table(("searched by", *columns), rows)


_GRID_CAPTION = (
    "<p>Test images at the left, each with its nearest training images and their cosine "
    "similarity: ✓ and green where the class is right, ✗ and red where it is not.</p>"
)


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
