"""A run's report: one HTML page of metrics, plots and pictures."""

import html
from pathlib import Path
from typing import Any

from PIL import Image

from vision_jax.data.sources import evenly_spaced
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.measure import measure
from vision_jax.evaluation.scores import measure_scores
from vision_jax.reports.class_maps import predictions_html
from vision_jax.reports.generated import Grids, image_grids
from vision_jax.reports.metrics import (
    calibration_rows,
    class_rows,
    label_rows,
    metric_rows,
    retrieval_rows,
)
from vision_jax.reports.searches import search_rows
from vision_jax.run.epoch_images import FOLDER as EPOCHS
from vision_jax.tasks.base import Classifies, Decodes
from vision_jax.training.metrics import read_metrics
from vision_jax.visual.grids import enlarge
from vision_jax.visual.html import (
    figure_html,
    folded,
    image_html,
    paragraph,
    table,
    write_page,
)
from vision_jax.visual.plots import confusion_matrix, learning_curves, reliability_diagram
from vision_jax.visual.score_plot import score_plot
from vision_jax.visual.sheets import row_html

_EPOCHS_SHOWN = 6
_CLASSES_SHOWN = 25

Sections = list[tuple[str, str]]


def write_report(
    data: EvaluationData, *, metrics: dict[str, Any] | None = None, grids: Grids | None = None
) -> Path:
    """Write `report.html` into a run's folder.

    Args:
        data: the run and its data.
        metrics: what `measure` returned for it; measured now by default.
        grids: what `image_grids` returned for it; made now by default.

    Returns:
        The page's path.

    Raises:
        InputError: an image cannot be read.
    """
    run, test = data.run, data.test
    if metrics is None:
        metrics = measure(data)
    use = "trained on" if run.config.trains else "imported; searches find"
    introduction = (
        f"{run.workdir} at step {run.step}, {use} the {len(data.train)} images of "
        f"{data.train.split}, measured on the {len(test)} of {test.split}."
    )
    sections = [("Metrics", table(*metric_rows(metrics)) + _notes(metrics))]
    if rows := read_metrics(run.workdir):
        curves = learning_curves(rows)
        sections.append(("Learning curves", figure_html(curves, "metrics by epoch")))
    if isinstance(run.task, Decodes):
        grids = image_grids(data)[0] if grids is None else grids
        sections += [("Images it makes", _grids_html(grids)), *_epochs(run.workdir / EPOCHS)]
    if "confusion" in metrics:
        sections += _recognition(metrics)
    if "confusion" in metrics and isinstance(run.task, Classifies):
        sections.append(("What it looks at", predictions_html(run, run.match_classes(test).source)))
    if "labels" in metrics:
        sections.append(("Labels", paragraph(_LABELS) + table(*label_rows(metrics))))
    sections += _search(data, metrics)
    sections.append(("Config", f"<pre>{html.escape(run.config.to_json())}</pre>"))
    path = run.workdir / "report.html"
    title = f"{run.config.name} on {test.name}"
    write_page(path, title, sections, introduction=paragraph(introduction))
    return path


def _notes(metrics: dict[str, Any]) -> str:
    notes = "".join(paragraph(f"Note: {note}.") for note in metrics.get("notes", []))
    if "pca_components" in metrics:
        notes += paragraph(_COMPONENTS)
    if "classifier_frechet_distance" in metrics:
        notes += paragraph(_DISTANCES)
    return notes


_COMPONENTS = (
    "The pca mean squared error is that of as many principal components of the training images as "
    "the code has values: the best that a linear code of this size can do."
)


_DISTANCES = (
    "The distances compare generated with test images by the features of your classifier. They are "
    "not comparable with published FID and KID, which use one specific Inception network. The "
    "floor is the distance between training and test images. A nearest training cosine above that "
    "of real images suggests that the generator copies training images."
)


def _recognition(metrics: dict[str, Any]) -> Sections:
    plot = confusion_matrix(metrics["confusion"], tuple(metrics["classes"]))
    matrix = figure_html(plot, "confusion matrix")
    head, rows = class_rows(metrics)
    classes = table(head, rows[:_CLASSES_SHOWN])
    if more := rows[_CLASSES_SHOWN:]:
        classes += folded(f"{len(more)} more classes", table(head, more))
    return [
        (
            "Confusion matrix",
            paragraph("How many images of each class were taken for each.") + matrix,
        ),
        ("Classes", paragraph(_BY_CLASS) + classes),
        ("Calibration", paragraph(_CALIBRATION) + _calibration(metrics)),
    ]


def _calibration(metrics: dict[str, Any]) -> str:
    diagram = figure_html(reliability_diagram(metrics["reliability"]), "reliability diagram")
    if "uncalibrated" not in metrics:
        return diagram
    before = dict(metrics["uncalibrated"])
    first = figure_html(reliability_diagram(before.pop("reliability")), "without the temperature")
    return (
        paragraph(
            f"At the left without, at the right with the temperature of the run, "
            f"{metrics['temperature']:.4g}, which divides its logits."
        )
        + table(*calibration_rows(before, metrics))
        + f"<div>{first}{diagram}</div>"
    )


_BY_CLASS = (
    "The lowest F1 first. Precision: the share of the images taken for the class that are of it. "
    "Recall: the share of its images that are recognised. F1: their harmonic mean. Average "
    "precision and ROC AUC: how well the probability of the class ranks its images before all "
    "others, whatever the threshold. Calibration error: how far that probability is from how often "
    "it is right, over all images. A dash: no images to measure it on."
)
_CALIBRATION = (
    "Whether the network's confidence, the probability of the class it predicts, can be believed: "
    "of the images with a confidence of about 0.8, eight in ten should be right. Bars below the "
    "diagonal mean that it is too sure. The calibration error is their mean distance from it, each "
    "bar counting by its images."
)
_LABELS = (
    "The lowest F1 first. Average precision: how well the probability of the label ranks "
    "the images that have it before the others, whatever the threshold. Precision, recall and F1 "
    "are at the threshold: the probability from which the label counts."
)


def _search(data: EvaluationData, metrics: dict[str, Any]) -> Sections:
    sections = []
    if metrics.get("retrieval"):
        sections.append(("Search", paragraph(_RETRIEVAL) + table(*retrieval_rows(metrics))))
    if (scores := measure_scores(data)) is not None:
        curve = scores.curve
        plot = score_plot(curve.thresholds, curve.precision, curve.recall)
        picture = figure_html(plot, "precision and recall by least score")
        sections.append(("Scores", paragraph(_SCORES) + picture))
    if rows := search_rows(data):
        caption = _NEAREST + (_MARKS if data.train.label_names else ".")
        sections.append(("Nearest images", paragraph(caption) + "".join(map(row_html, rows))))
    return sections


_RETRIEVAL = (
    "How well images of the same class are found, each metric between 0 and 1. knn_accuracy@10: "
    "how often the 10 nearest training images vote for a test image's class. precision@10: how "
    "many of the 10 nearest other test images share its class. map@r: the same for as many nearest "
    "images as the class has others, with more weight on the first ones. Search by raw pixels is "
    "the baseline."
)
_SCORES = (
    "How right a score is, with test images looked up among each other. Precision: of all hits "
    "with a cosine of at least so much, the share that has the query's label. Recall: of all "
    "images with the query's label, the share that is found. vision-jax search --min-score takes "
    "such a score."
)
_NEAREST = (
    "Test images at the left, each with its nearest training images and their cosine similarity"
)
_MARKS = ": ✓ and green where the class is right, ✗ and red where it is wrong."


def _grids_html(grids: Grids) -> str:
    return "".join(image_html(enlarge(grid), _CAPTIONS[name]) for name, grid in grids.items())


_CAPTIONS = {
    "samples": "Samples: images made from random latents.",
    "nearest": "Samples above, the nearest training image of each below.",
    "reconstructions": "Test images above, their reconstructions below.",
    "interpolations": "Interpolations: each row goes from one image to the next.",
}


def _epochs(folder: Path) -> Sections:
    """Show what the network made after some of the epochs."""
    sections = []
    for name in ("samples", "reconstructions"):
        paths = sorted(folder.glob(f"*-{name}.png"))
        row = ""
        for path in (paths[place] for place in evenly_spaced(len(paths), _EPOCHS_SHOWN)):
            with Image.open(path) as grid:
                row += image_html(grid, f"epoch {int(path.name.split('-')[0])}")
        if row:
            sections.append((f"{name.capitalize()} by epoch", f'<div class="row">{row}</div>'))
    return sections
