import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from vision_jax.evaluation.reliability import BINS, Reliability


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(0, 4, 300).astype(np.int32)


@pytest.fixture(scope="module")
def probabilities(labels):
    rng = np.random.default_rng(0)
    rows = softmax(rng.normal(size=(300, 4)) * 3 + 2 * np.eye(4)[labels])
    rows[:20] = np.eye(4)[rng.integers(0, 4, 20)]  # certain, some of them wrongly
    rows[20:30] = 0.25  # ties
    rows[30:40] = [0.6, 0.4, 0, 0]  # at the edges of bins
    return rows


@pytest.fixture(scope="module")
def counted(probabilities, labels):
    reliability = Reliability(4)
    for part in (slice(0, 7), slice(7, 107), slice(107, None)):
        reliability.add(probabilities[part], labels[part])
    return reliability


def test_losses_are_those_of_scikit_learn(counted, probabilities, labels):
    assert counted.metrics["log_loss"] == pytest.approx(log_loss(labels, probabilities))
    assert counted.metrics["brier_score"] == pytest.approx(
        brier_score_loss(labels, probabilities, labels=range(4))
    )


def curve(truth, scores):
    """Scikit-learn's bins, with how many scores lie in each, which it leaves out."""
    accuracy, confidence = calibration_curve(truth, scores, n_bins=BINS)
    places = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], scores)
    return np.bincount(places)[np.unique(places)], confidence, accuracy


def test_bins_and_calibration_error_are_those_of_scikit_learn(counted, probabilities, labels):
    right = probabilities.argmax(1) == labels
    count, confidence, accuracy = curve(right, probabilities.max(1))
    filled = counted.bins["images"] > 0
    np.testing.assert_array_equal(counted.bins["images"][filled], count)
    np.testing.assert_allclose(counted.bins["confidence"][filled], confidence, rtol=1e-6)
    np.testing.assert_allclose(counted.bins["accuracy"][filled], accuracy)
    assert np.isnan(counted.bins["accuracy"][~filled]).all()
    assert counted.metrics["calibration_error"] == pytest.approx(
        (count / 300) @ abs(confidence - accuracy)
    )


def test_errors_by_class_are_those_of_scikit_learn(counted, probabilities, labels):
    errors = []
    for kind in range(4):
        count, confidence, accuracy = curve(labels == kind, probabilities[:, kind])
        errors.append((count / 300) @ abs(confidence - accuracy))
    np.testing.assert_allclose(counted.class_errors, errors, rtol=1e-5)
    assert counted.metrics["classwise_calibration_error"] == pytest.approx(
        np.mean(errors), rel=1e-5
    )


def test_no_images_have_no_metrics():
    reliability = Reliability(3)
    assert np.isnan(list(reliability.metrics.values())).all()
    assert np.isnan(reliability.class_errors).all()
