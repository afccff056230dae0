"""How right search scores are: measured on a test set, kept with the run, read by searches."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vision_jax.evaluation.data import EvaluationData
from vision_jax.files import write_text
from vision_jax.gallery.origin import Origin
from vision_jax.search.arrays import without_direction
from vision_jax.search.scores import ScoreCurve, score_curve

FILE = "search_scores.json"
_DIGITS = 4


class MeasuredScores(NamedTuple):
    """A curve, and what it was measured on.

    Attributes:
        curve: precision and recall of "same label" by the least score.
        encoder: the identity of the network.
        data: the name of the data set or folder.
        split: the part of it whose images were looked up among each other.
        views: of each image, whose vectors were averaged.
    """

    curve: ScoreCurve
    encoder: str
    data: str
    split: str
    views: int = 1

    def sentence(self, min_score: float) -> str:
        """Say how right hits of a score are, at the highest measured threshold up to it."""
        curve = self.curve
        at = int(np.searchsorted(curve.thresholds, np.float32(min_score), side="right")) - 1
        least, precision = curve.thresholds[at], curve.precision[at]
        test = f"on the test set, {curve.images} images of {self.data} ({self.split}),"
        if math.isnan(precision):
            return f"{test} no two images had a cosine of {least:.3f} or more"
        return (
            f"{test} {precision:.2f} of the hits of {least:.3f} or more had the query's label; "
            f"{curve.recall[at]:.2f} of the images with that label were found"
        )


def measure_scores(data: EvaluationData) -> MeasuredScores | None:
    """Measure how right search scores are, looking test images up among each other.

    Args:
        data: a run and its data.

    Returns:
        The curve; None if the test images have no labels, no two that can be compared share one, or
        some are training images, whose scores say nothing of others.
    """
    labels = data.queries.labels()
    if labels is None or data.shared:
        return None
    lost = without_direction(data.query_vectors)
    vectors, known = np.delete(data.query_vectors, lost, 0), np.delete(labels, lost)
    if not len(known) or np.max(np.bincount(known)) < 2:
        return None
    test = data.test
    curve = score_curve(vectors, known)
    return MeasuredScores(curve, data.run.identity, test.name, test.split, data.views)


def write_scores(measured: MeasuredScores, workdir: Path) -> Path:
    """Write a curve into a run's folder, for searches to read.

    Returns:
        The file.
    """
    curve = measured.curve
    content = {
        **{"encoder": measured.encoder, "data": measured.data, "split": measured.split},
        "views": measured.views,
        "images": curve.images,
        "thresholds": [round(float(value), _DIGITS) for value in curve.thresholds],
        "precision": [
            None if math.isnan(value) else round(value, _DIGITS) for value in curve.precision
        ],
        "recall": [round(value, _DIGITS) for value in curve.recall],
    }
    write_text(workdir / FILE, json.dumps(content) + "\n")
    return workdir / FILE


def read_scores(workdir: Path, origin: Origin) -> MeasuredScores | None:
    """Read what was measured for an index.

    Args:
        workdir: the folder of the run that made it.
        origin: what the index was made of.

    Returns:
        The curve; None if there is none that can be read, or it is of another network, other images
        or another number of views than the index.
    """
    try:
        content = json.loads((workdir / FILE).read_text(encoding="utf-8"))
        thresholds = np.array(content["thresholds"], np.float32)
        precision, recall = (np.array(content[name], float) for name in ("precision", "recall"))
        images, encoder = int(content["images"]), str(content["encoder"])
        data, split = str(content["data"]), str(content["split"])
        views = int(content.get("views", 1))  # earlier versions did not say
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not len(thresholds) or not thresholds.shape == precision.shape == recall.shape:
        return None
    if (encoder, data, views) != (origin.encoder, origin.source, origin.views) or origin.others:
        return None
    curve = ScoreCurve(thresholds, precision, recall, images)
    return MeasuredScores(curve, encoder, data, split, views)
