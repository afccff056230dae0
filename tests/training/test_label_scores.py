import numpy as np
import pytest
from sklearn import metrics

from vision_jax.training.label_scores import average_precision, label_averages, label_scores


@pytest.fixture
def drawn():
    """Which of 4 labels 300 images have, and scores of few distinct values."""
    random = np.random.default_rng(0)
    there = random.random((300, 4)) < [0.5, 0.1, 0.9, 0.3]
    scores = np.clip(np.round(random.normal(there * 2, 3)) + 8, 0, 15).astype(int)
    return there, scores


def counts_by_score(there, scores):
    counts = np.zeros((there.shape[1], 16, 2), np.int64)
    for label in range(there.shape[1]):
        np.add.at(counts[label], (scores[:, label], there[:, label].astype(int)), 1)
    return counts


def test_counts_give_what_scikit_learn_gives(drawn):
    there, scores = drawn
    counts = counts_by_score(there, scores)
    np.testing.assert_allclose(
        average_precision(counts[..., 0], counts[..., 1]),
        metrics.average_precision_score(there, scores, average=None),
    )
    found = label_averages(counts)
    for average, name in (("macro", "mean"), ("micro", "micro")):
        expected = metrics.average_precision_score(there, scores, average=average)
        assert found[f"{name}_average_precision"] == pytest.approx(expected)
        expected = metrics.f1_score(there, scores >= 8, average=average)
        assert found[f"{average}_f1"] == pytest.approx(expected)


def test_labels_that_no_image_has_are_left_out_of_the_means(drawn):
    there, scores = drawn
    counts = counts_by_score(there, scores)
    counts[1, :, 0] += counts[1, :, 1]
    counts[1, :, 1] = 0
    kept = np.delete(counts, 1, 0)
    found, expected = label_averages(counts), label_averages(kept)
    assert found["mean_average_precision"] == pytest.approx(expected["mean_average_precision"])
    scores = label_scores(*(np.array(row) for row in ([1, 0, 0], [2, 3, 0], [4, 0, 0])))
    np.testing.assert_allclose(scores.precision, [0.5, 0, np.nan])
    np.testing.assert_allclose(scores.recall, [0.25, np.nan, np.nan])
    np.testing.assert_allclose(scores.f1, [1 / 3, 0, np.nan])
