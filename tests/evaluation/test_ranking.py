import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from vision_jax.evaluation.ranking import own_scores, rank_classes


def parts_of(scores, labels, size):
    return [(scores[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


@pytest.mark.parametrize("size", [7, 1000])
@pytest.mark.parametrize("levels", [None, 5, 1])
def test_ranking_is_that_of_scikit_learn(size, levels):
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 3], 120, p=[0.8, 0.15, 0.05]).astype(np.int32)  # class 2 is absent
    scores = rng.dirichlet(np.ones(4), 120).astype(np.float32)
    scores[np.arange(120), labels] += np.float32(0.2)
    if levels:  # ties
        scores = np.round(scores * levels) / np.float32(levels)
    parts = parts_of(scores, labels, size)
    ranking = rank_classes(own_scores(parts, 4), parts)
    for kind in (0, 1, 3):
        truth = labels == kind
        assert ranking.average_precision[kind] == pytest.approx(
            average_precision_score(truth, scores[:, kind])
        )
        assert ranking.roc_auc[kind] == pytest.approx(roc_auc_score(truth, scores[:, kind]))
    assert np.isnan([ranking.average_precision[2], ranking.roc_auc[2]]).all()


def test_a_class_of_all_images_has_no_curve():
    parts = parts_of(np.random.default_rng(0).random((6, 2), np.float32), np.ones(6, np.int32), 4)
    precision, area = rank_classes(own_scores(parts, 2), parts)
    np.testing.assert_array_equal(precision, [np.nan, 1])
    np.testing.assert_array_equal(area, [np.nan, np.nan])
