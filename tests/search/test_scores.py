"""Precision and recall by score, against scikit-learn's over all pairs."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

from vision_jax.errors import InputError
from vision_jax.search import cosine_similarity, score_curve, scores


@pytest.mark.parametrize("budget", [1 << 22, 1000])
def test_precision_and_recall_are_scikit_learns(monkeypatch, budget):
    monkeypatch.setattr(scores, "_BUDGET", budget)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 130) * 7
    labels[0] = 99  # the only one of its label
    vectors = rng.standard_normal((100, 6))[labels] + 0.9 * rng.standard_normal((130, 6))
    vectors[5] = vectors[4]  # a cosine of 1
    curve = score_curve(vectors, labels)
    assert curve.images == 130
    off = ~np.eye(130, dtype=bool)
    cosines = np.clip(np.asarray(cosine_similarity(vectors, vectors)), -1, 1)[off]
    same = (labels[:, None] == labels)[off]
    assert curve.thresholds.dtype == np.float32
    for at in (0, 1, 700, 1333, 1500, 1800, 1950):
        hits = cosines >= curve.thresholds[at]
        assert curve.precision[at] == pytest.approx(precision_score(same, hits))
        assert curve.recall[at] == pytest.approx(recall_score(same, hits))
    assert curve.precision[0] == pytest.approx(same.mean())
    assert (curve.recall[0], curve.thresholds[1800]) == (1, np.float32(0.8))


def test_scores_on_a_threshold_reach_it():
    angles = np.arccos([1.0, 0.8, 0.5, -1.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)[[0, 1, 3]]
    curve = score_curve([[1, 0], [-1, 0], [1, 0]], [0, 0, 0])
    assert curve.recall[[0, 1, -1]].tolist() == [1, 1 / 3, 1 / 3]
    assert np.isnan(score_curve(vectors, [0, 0, 1]).precision[-1])


@pytest.mark.parametrize(
    ("vectors", "labels", "message"),
    [
        (np.eye(3), [0, 1], "labels has 2 entries; 3 are needed"),
        (np.eye(3), [0, 1, 2], "no two vectors have the same label"),
        (np.zeros((2, 3)), [0, 0], "zero, NaN or infinite"),
    ],
)
def test_what_cannot_be_measured_is_refused(vectors, labels, message):
    with pytest.raises(InputError, match=message):
        score_curve(vectors, labels)
