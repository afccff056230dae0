"""How well scores rank the images of each class: average precision and the area under the ROC."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

Scores = Float[np.ndarray, "_ classes"]
Labels = Integer[np.ndarray, " _"]


OwnScores = Float[np.ndarray, " _"]


class Ranking(NamedTuple):
    """How well each class's scores tell its images from those of all other classes.

    Attributes:
        average_precision: the mean over a class's images of the precision among all images that
            score at least as high; as scikit-learn's `average_precision_score`. NaN for a class
            without images.
        roc_auc: the chance that an image of the class scores higher than one of another, ties
            counting half; as scikit-learn's `roc_auc_score`. NaN for a class of no or of all
            images.
    """

    average_precision: Float[np.ndarray, " classes"]
    roc_auc: Float[np.ndarray, " classes"]


def own_scores(parts: Iterable[tuple[Scores, Labels]], classes: int) -> list[OwnScores]:
    """Collect the score of each image for its own class, one number an image.

    Args:
        parts: (B, classes) scores and (B,) labels, part by part.
        classes: how many there are.

    Returns:
        For each class the scores of its images, rising.
    """
    kept, kinds = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
    for scores, labels in parts:
        kept.append(np.take_along_axis(scores, labels[:, None], 1)[:, 0])
        kinds.append(labels)
    values, labels = np.concatenate(kept), np.concatenate(kinds)
    order = np.lexsort((values, labels))
    ends = np.searchsorted(labels[order], np.arange(1, classes))
    return np.split(values[order], ends)


def rank_classes(own: Sequence[OwnScores], parts: Iterable[tuple[Scores, Labels]]) -> Ranking:
    """Measure the ranking of each class against all others, exactly and in bounded memory.

    Args:
        own: what `own_scores` returned for the same parts.
        parts: the parts once more: the other images are counted against each class's own.

    Returns:
        (classes,) each, in [0, 1] or NaN.
    """
    # By class, how many others score at least as much as, or more than, as many of its images.
    at_least, above = ([np.zeros(len(rows) + 1, np.int64) for rows in own] for _ in range(2))
    for scores, labels in parts:
        for kind, rows in enumerate(own):
            others = scores[labels != kind, kind]
            for counts, side in ((at_least[kind], "right"), (above[kind], "left")):
                places = np.searchsorted(rows, others, side)  # type: ignore[call-overload]
                counts += np.bincount(places, minlength=len(counts))
    total = sum(map(len, own))
    measured = [_measure(*rows, total) for rows in zip(own, at_least, above, strict=True)]
    precision, area = np.array(measured, np.float64).reshape(len(own), 2).T
    return Ranking(precision, area)


def _measure(
    own: Float[np.ndarray, " images"],
    at_least: Integer[np.ndarray, " places"],
    above: Integer[np.ndarray, " places"],
    total: int,
) -> tuple[float, float]:
    count = len(own)
    if count == 0:
        return np.nan, np.nan
    # Entry i: others that reach, or pass, the score of the class's image i.
    reach, passed = (np.cumsum(counts[::-1])[::-1][1:] for counts in (at_least, above))
    right = count - np.searchsorted(own, own)
    precision = float(np.mean(right / (right + reach)))
    others = total - count
    return precision, 1 - float(np.mean(reach + passed)) / (2 * others) if others else np.nan
