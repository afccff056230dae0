"""Measuring a classifier of several labels an image, and choosing its thresholds."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.run.run import Run
from vision_jax.training.label_scores import average_precision, averages, label_scores


def measure_labels(
    run: Run, source: Source, thresholds: Float[np.ndarray, " labels"]
) -> dict[str, Any]:
    """Measure how well a classifier finds each label of images that may have several.

    Keeps the probability of each label and image.

    Args:
        run: a classifier trained on several labels an image.
        source: images whose labels are the run's.
        thresholds: the probability from which each label counts.

    Returns:
        `mean_average_precision` and `micro_average_precision`, as scikit-learn's
        `average_precision_score` of `average="macro"` and `"micro"`; `macro_f1` and `micro_f1` at
        the thresholds; and `labels`, for each label by its name `images`, `average_precision`,
        `precision`, `recall`, `f1` and `threshold`. A label that no image has is NaN, and is left
        out of the means over labels.

    Raises:
        InputError: the source has other labels.
    """
    scores, there = _scores(run, source)
    given = scores >= thresholds
    counts = ((given & there).sum(0), given.sum(0), there.sum(0))
    precision = np.array([_ranked(*column) for column in zip(scores.T, there.T, strict=True)])
    columns = {
        "images": counts[2],
        "average_precision": precision,
        **label_scores(*counts)._asdict(),
        "threshold": thresholds,
    }
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return {
        **averages(precision, _ranked(scores.ravel(), there.ravel()), *counts),
        "labels": {
            name: dict(zip(columns, row, strict=True))
            for name, row in zip(run.info.label_names or (), rows, strict=True)
        },
    }


def best_thresholds(run: Run, source: Source) -> Float[np.ndarray, " labels"]:
    """Choose the probability from which each label counts, to make its F1 highest.

    Args:
        run: a classifier trained on several labels an image.
        source: images whose labels are the run's, such as its validation split.

    Returns:
        (labels,) in [0, 1], midway between the two scores that they divide; 0.5 for a label that
        no image has.

    Raises:
        InputError: the source has other labels.
    """
    scores, there = _scores(run, source)
    columns = zip(scores.T.astype(np.float64), there.T, strict=True)
    return np.array([_best(*column) if column[1].any() else 0.5 for column in columns])


def _scores(
    run: Run, source: Source
) -> tuple[Float[np.ndarray, "images labels"], Bool[np.ndarray, "images labels"]]:
    there = run.match_classes(source).source.multi_hot()
    assert there is not None  # its labels are the run's
    scores = run.predict(source)
    if not np.isfinite(scores).all():
        raise InputError(f"{run.workdir} gives probabilities that are NaN; they must be finite")
    return scores, there


def _by_score(
    scores: Float[np.ndarray, " images"], there: Bool[np.ndarray, " images"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores, rising, and how many images without and with the label each."""
    values, places = np.unique(scores, return_inverse=True)
    without, having = (np.bincount(places[kind], minlength=len(values)) for kind in (~there, there))
    return values, without, having


def _ranked(scores: Float[np.ndarray, " images"], there: Bool[np.ndarray, " images"]) -> float:
    _, without, having = _by_score(scores, there)
    return float(average_precision(without, having))


def _best(scores: Float[np.ndarray, " images"], there: Bool[np.ndarray, " images"]) -> float:
    values, without, having = _by_score(scores, there)
    right, wrong = (np.cumsum(counts[::-1])[::-1] for counts in (having, without))
    f1 = 2 * right / (right + wrong + having.sum())
    place = len(f1) - 1 - int(np.argmax(f1[::-1]))  # the highest of equals
    below = values[place - 1] if place else 0.0
    return float((values[place] + below) / 2)
