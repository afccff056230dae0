"""What a confusion matrix says of each class and of all: precision, recall, F1."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

Confusion = Integer[np.ndarray, "classes classes"]
"""Counts of examples: rows are true classes, columns predicted ones."""

Shares = Float[np.ndarray, " classes"]


class ClassScores(NamedTuple):
    """Precision, recall and F1 of each class.

    They are those of scikit-learn's `precision_recall_fscore_support`, but NaN where a class has
    nothing to measure, for which scikit-learn warns and returns 0.

    Attributes:
        precision: share of the examples taken for a class that are of it; 0 for a class with
            examples that nothing is taken for, NaN for one without either.
        recall: share of a class's examples that are recognised; NaN for a class without examples.
        f1: harmonic mean of the two; NaN for a class that neither occurs nor is predicted.
    """

    precision: Shares
    recall: Shares
    f1: Shares


def class_scores(confusion: Confusion) -> ClassScores:
    """Compute precision, recall and F1 of each class.

    Args:
        confusion: counts; rows are true classes, columns predicted ones.

    Returns:
        (classes,) each, in [0, 1] or NaN.
    """
    right, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    seen = true + predicted > 0
    precision = np.where(seen, right / np.maximum(predicted, 1), np.nan)
    recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
    f1 = np.where(seen, 2 * right / np.maximum(true + predicted, 1), np.nan)
    return ClassScores(precision, recall, f1)


def average_scores(confusion: Confusion) -> dict[str, float]:
    """Average over classes, each of which counts alike however many examples it has.

    Args:
        confusion: counts; rows are true classes, columns predicted ones.

    Returns:
        `balanced_accuracy`, the mean recall of the classes that have examples, as scikit-learn's
        `balanced_accuracy_score`; `macro_precision`, `macro_recall` and `macro_f1`, the means over
        the classes that have examples or are predicted, as scikit-learn's `average="macro"`: a
        class that is predicted but has no examples counts as 0. NaN without examples.
    """
    scores = class_scores(confusion)
    recall = np.where(np.isnan(scores.recall) & ~np.isnan(scores.f1), 0, scores.recall)
    return {
        "balanced_accuracy": mean_of_known(scores.recall),
        "macro_precision": mean_of_known(scores.precision),
        "macro_recall": mean_of_known(recall),
        "macro_f1": mean_of_known(scores.f1),
    }


def mean_of_known(values: Shares) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
