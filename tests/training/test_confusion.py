import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from vision_jax.training.confusion import average_scores, class_scores

CASES = {
    "all classes": ([0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 0, 2]),
    "a class is never predicted": ([0, 0, 1, 2, 2], [0, 2, 2, 2, 2]),
    "a class has no images": ([0, 0, 2, 2], [0, 1, 2, 2]),
    "a class neither occurs nor is predicted": ([0, 0, 2, 2], [0, 2, 2, 2]),
    "one class": ([1, 1, 1], [1, 1, 1]),
    "nothing is right": ([0, 1, 2], [1, 2, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_scikit_learn(case):
    true, predicted = map(np.array, CASES[case])
    confusion = np.zeros((3, 3), np.int32)
    np.add.at(confusion, (true, predicted), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = balanced_accuracy_score(true, predicted)
        *macro, _ = precision_recall_fscore_support(true, predicted, average="macro")
        *apart, images = precision_recall_fscore_support(true, predicted, labels=[0, 1, 2])
    averages = average_scores(confusion)
    assert averages["balanced_accuracy"] == pytest.approx(balanced)
    assert [averages[f"macro_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(
        macro
    )
    scores = class_scores(confusion)
    there = (images > 0) | (confusion.sum(0) > 0)
    for ours, theirs, known in zip(scores, apart, (there, images > 0, there), strict=True):
        np.testing.assert_allclose(ours, np.where(known, theirs, np.nan))


def test_no_images_leave_nothing_to_measure():
    assert all(np.isnan(list(average_scores(np.zeros((3, 3), np.int32)).values())))
