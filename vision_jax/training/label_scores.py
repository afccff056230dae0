"""What counts of labels by score say: average precision, precision, recall and F1."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num

from vision_jax.training.confusion import mean_of_known

Counts = Integer[np.ndarray, "*labels bins"]
Shares = Float[np.ndarray, " labels"]


class LabelScores(NamedTuple):
    """Precision, recall and F1 of each label, as scikit-learn's `precision_recall_fscore_support`.

    They are NaN where there is nothing to measure, for which scikit-learn warns and returns 0.

    Attributes:
        precision: share of the images given a label that have it; 0 for one that some have and none
            is given, NaN for one that none has or is given.
        recall: share of the images with a label that are given it; NaN for one that none has.
        f1: harmonic mean of the two; NaN for a label that no image has or is given.
    """

    precision: Shares
    recall: Shares
    f1: Shares


def label_scores(
    right: Num[np.ndarray, " labels"],
    given: Num[np.ndarray, " labels"],
    true: Num[np.ndarray, " labels"],
) -> LabelScores:
    """Compute precision, recall and F1 of each label.

    Args:
        right: images that have a label and are given it.
        given: images that are given it.
        true: images that have it.

    Returns:
        (labels,) each, in [0, 1] or NaN.
    """
    seen = true + given > 0
    precision = np.where(seen, right / np.maximum(given, 1), np.nan)
    recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
    f1 = np.where(seen, 2 * right / np.maximum(true + given, 1), np.nan)
    return LabelScores(precision, recall, f1)


def average_precision(without: Counts, having: Counts) -> Float[np.ndarray, "*labels"]:
    """Compute the average precision of labels from counts by score.

    It is scikit-learn's `average_precision_score`: the mean, over the images with a label, of the
    precision among all images that score at least as high.

    Args:
        without: (..., bins) images without the label, by rising score.
        having: (..., bins) images with it.

    Returns:
        (...) in [0, 1]; NaN for a label that no image has.
    """
    right, wrong = (np.flip(np.cumsum(np.flip(counts, -1), -1), -1) for counts in (having, without))
    total = having.sum(-1)
    sums = np.sum(having * (right / np.maximum(right + wrong, 1)), -1)
    return np.where(total > 0, sums / np.maximum(total, 1), np.nan)


def label_averages(counts: Integer[np.ndarray, "labels bins 2"]) -> dict[str, float]:
    """Average over labels what counts by score say.

    Args:
        counts: images without and with each label by rising score, those given the label in the
            upper half of the bins; see `MultiLabelClassification.eval_step`.

    Returns:
        `mean_average_precision` and `macro_f1`, means over the labels that have them;
        `micro_average_precision` and `micro_f1`, of all pairs of image and label.
    """
    without, having = counts[..., 0], counts[..., 1]
    half = counts.shape[1] // 2
    right, true = having[:, half:].sum(1), having.sum(1)
    given = right + without[:, half:].sum(1)
    return averages(
        average_precision(without, having),
        float(average_precision(without.sum(0), having.sum(0))),
        *(right, given, true),
    )


def averages(
    precision: Shares,
    micro_precision: float,
    right: Num[np.ndarray, " labels"],
    given: Num[np.ndarray, " labels"],
    true: Num[np.ndarray, " labels"],
) -> dict[str, float]:
    """Average what is known of each label; see `label_averages` and `label_scores`."""
    micro = label_scores(*(counts.sum(keepdims=True) for counts in (right, given, true)))
    return {
        "mean_average_precision": mean_of_known(precision),
        "micro_average_precision": micro_precision,
        "macro_f1": mean_of_known(label_scores(right, given, true).f1),
        "micro_f1": float(micro.f1[0]),
    }
