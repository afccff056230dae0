"""Measuring a trained run: recognition, reconstruction, generation and search."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from vision_jax.data.loader import read_parts
from vision_jax.data.sources import Source
from vision_jax.evaluation.classes import measure_classes
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.generation import check_classifier, measure_generation
from vision_jax.evaluation.labels import measure_labels
from vision_jax.evaluation.retrieval import measure_retrieval
from vision_jax.run.classes import have_common
from vision_jax.run.run import Run
from vision_jax.run.thresholds import read_thresholds
from vision_jax.tasks.base import Classifies, Reconstructs

_MAX_PCA_PIXELS = 4096
_AT_ONCE = 256


def measure(data: EvaluationData, *, classifier: Run | None = None) -> dict[str, Any]:
    """Measure all that a run can do on a split of its data.

    Args:
        data: the run and its data, such as `EvaluationData.of(run)`.
        classifier: a trained classifier that judges generated images; see `measure_generation`.

    Returns:
        The task's own metrics by name, except for an imported classifier on images of other classes
        than its own, and, as far as they apply:
        `images`, how many were measured, `views` of each that search averages, if several, and
        `skipped`, how many bad files were left out;
        what `measure_classes` returns for a classifier, and `per_class_accuracy` by class, the
        recall, NaN for a class without images;
        where the data's classes are not the run's, `missing_classes`, those of the run without
        images, and `unknown_classes`, the images left out of recognition by class; `confusion` and
        `classes` then have only what there are images of, or what they were taken for;
        what `measure_labels` returns for a classifier of several labels an image;
        `pca_mean_squared_error` beside an autoencoder, the error of as many principal components
        of the training images as its code has values, and `pca_components`, how many those are;
        `retrieval` of labelled images, see `measure_retrieval`;
        with a classifier the metrics of `measure_generation`;
        `notes`, sentences that say what was left out and why.

    Raises:
        InputError: the run cannot generate images for the classifier to judge.
    """
    run, test = data.run, data.test
    if classifier is not None:
        check_classifier(run, classifier)
    notes: list[str] = []
    metrics: dict[str, Any] = {"images": len(test)}
    if data.views != 1:
        metrics["views"] = data.views
    common = have_common(test.label_names, run.info.label_names)
    if not isinstance(run.task, Classifies):
        metrics |= run.evaluate(test)
    elif run.info.multi_label:
        metrics |= run.evaluate(test) | measure_labels(run, test, read_thresholds(run))
    elif common or run.config.trains:
        metrics |= _recognition(run, test, notes)
    else:
        notes.append(_other_classes(run, test))
    if test.skipped:
        metrics["skipped"] = test.skipped
    if isinstance(run.task, Reconstructs):
        metrics |= _measure_pca(data, notes)
    if classifier is not None:
        metrics |= measure_generation(data, classifier)
    if test.multi_label_names is not None:
        notes.append("retrieval is left out: its metrics compare one label an image")
    if test.label_names is not None:
        metrics["retrieval"], more = measure_retrieval(data)
        notes += more
    return metrics | ({"notes": notes} if notes else {})


def _recognition(run: Run, test: Source, notes: list[str]) -> dict[str, Any]:
    """Measure a classifier on the images whose class it knows; appends to the notes."""
    match = run.match_classes(test)
    metrics = run.evaluate(match.source)
    if "confusion" not in metrics:  # a task of its own metrics
        return metrics
    confusion = metrics["confusion"]
    metrics |= measure_classes(run, match.source, confusion)
    fitted = run.calibration
    if fitted and (fitted.data, fitted.split) == (test.name, test.split):
        notes.append(
            "the temperature was fitted on these images, whose calibration is therefore better "
            "than that of others"
        )
    if match.source is not test:
        notes += match.notes()
        metrics |= {"missing_classes": match.missing, "unknown_classes": match.unknown}
        used = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
        by_class = list(metrics["classes"].items())
        metrics["classes"] = dict(by_class[place] for place in used)
        metrics["confusion"] = confusion[np.ix_(used, used)]
    metrics["per_class_accuracy"] = {
        name: scores["recall"] for name, scores in metrics["classes"].items()
    }
    return metrics


def _other_classes(run: Run, test: Source) -> str:
    found = f"{len(test.label_names)} other classes" if test.label_names else "no labels"
    own = len(run.info.label_names or ())
    return (
        f"recognition is left out: {test.name} has {found}, and the imported network tells its own "
        f"{own} apart"
    )


def _measure_pca(data: EvaluationData, notes: list[str]) -> dict[str, float | int]:
    """Measure principal components (Pearson, 1901), the best linear code of a given width."""
    train = data.train
    width = data.run.embed(np.zeros((1, *train.image_shape), np.uint8)).shape[1]
    pixels = int(np.prod(train.image_shape))
    if pixels > _MAX_PCA_PIXELS or width > min(pixels, len(train)):
        notes.append(
            f"principal components are left out: {width} of them, as many as the code has values, "
            f"need at least {width} training images, and images of {width} to {_MAX_PCA_PIXELS} "
            f"values; there are {len(train)} images of {pixels}"
        )
        return {}
    total, products = np.zeros(pixels), np.zeros((pixels, pixels))
    for rows in _pixel_rows(train):
        total += rows.sum(0)
        products += rows.T @ rows
    mean = total / len(train)
    covariance = products / len(train) - np.outer(mean, mean)
    components = np.linalg.eigh(covariance)[1][:, -width:]  # eigenvalues ascend
    error = 0.0
    for rows in _pixel_rows(data.test):
        centred = rows - mean
        error += np.square(centred - centred @ components @ components.T).sum()
    return {
        "pca_mean_squared_error": float(error / (len(data.test) * pixels)),
        "pca_components": width,
    }


def _pixel_rows(source: Source) -> Iterator[np.ndarray]:
    for rows in read_parts(source, _AT_ONCE):
        yield rows["image"].reshape(len(rows["image"]), -1).astype(np.float64) / 255
