import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vision_jax.errors import InputError
from vision_jax.evaluation.probes import fit_probe, knn_predict

PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS = PIXELS.astype(np.float32)
RNG = np.random.default_rng(0)
KNOWN, ASKED = slice(0, 600), slice(600, 900)


@pytest.mark.parametrize("temperature", [0.07, None])
def test_votes_are_scikit_learns(temperature):
    weigh = "uniform" if temperature is None else lambda far: np.exp((1 - far) / temperature)
    model = KNeighborsClassifier(20, metric="cosine", weights=weigh)
    expected = model.fit(PIXELS[KNOWN], LABELS[KNOWN]).predict(PIXELS[ASKED])
    found = knn_predict(PIXELS[KNOWN], LABELS[KNOWN], PIXELS[ASKED], temperature=temperature)
    assert np.mean(found == expected) > 0.996  # where votes are equal up to rounding
    assert np.mean(found == LABELS[ASKED]) > 0.87


def test_near_neighbours_outvote_many_far_ones():
    angles = np.array([0.0, 0.5, 0.5, 0.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    labels, query = np.array([2, 1, 1, 1]), np.array([[5.0, 0.0]], np.float32)
    assert knn_predict(vectors, labels, query, temperature=0.07) == 2  # 3 exp(-0.122 / 0.07) < 1
    assert knn_predict(vectors, labels, query, temperature=0.2) == 1
    assert knn_predict(vectors, labels, query, temperature=None) == 1
    assert knn_predict(vectors, labels, query, k=1, temperature=None) == 2


def test_what_has_no_direction_is_not_found_and_has_no_class():
    vectors = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    queries = np.array([[0, 0], [1, 0.1], [np.nan, 0]], np.float32)
    assert knn_predict(vectors, np.array([0, 1, 2]), queries, k=1).tolist() == [-1, 1, -1]
    assert knn_predict(vectors[:1], np.array([0]), queries).tolist() == [-1, -1, -1]
    # Unit vectors at a low temperature must not overflow.
    assert knn_predict(vectors, np.array([0, 1, 2]), queries[1:2], temperature=1e-4) == 1


@pytest.mark.parametrize("l2", [1e-2, 1e-3])
def test_the_probe_is_scikit_learns(l2):
    scaler = StandardScaler().fit(PIXELS[KNOWN])
    model = LogisticRegression(C=1 / (l2 * 600), max_iter=1000, tol=1e-6)
    model.fit(scaler.transform(PIXELS[KNOWN]), LABELS[KNOWN])
    expected = model.predict_proba(scaler.transform(PIXELS[ASKED]))
    probe = fit_probe(PIXELS[KNOWN], LABELS[KNOWN], l2=l2)
    logits = probe.scores(PIXELS[ASKED])
    found = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(found / found.sum(1, keepdims=True), expected, atol=5e-3)
    assert np.mean(
        probe.predict(PIXELS[ASKED]) == model.predict(scaler.transform(PIXELS[ASKED]))
    ) > (0.996)


def test_a_constant_feature_tells_nothing_whatever_its_value():
    labels = np.arange(1000) % 3 % 2
    apart = RNG.normal(size=(1000, 3)) + labels[:, None]
    vectors = np.hstack([apart, np.full((1000, 1), 0.1)]).astype(np.float32)
    probe = fit_probe(vectors, labels, l2=1e-3)
    np.testing.assert_array_equal(probe.kernel[3], 0)
    scaler = StandardScaler().fit(vectors)
    assert scaler.scale_[3] == 1
    model = LogisticRegression(C=1 / (1e-3 * 1000)).fit(scaler.transform(vectors), labels)
    vectors[:, 3] = 0.2
    assert np.mean(probe.predict(vectors) == model.predict(scaler.transform(vectors))) > 0.996


def test_the_penalty_is_chosen_for_what_was_held_out(monkeypatch):
    labels = (np.arange(100) % 5 == 0).astype(np.int32)
    apart = RNG.normal(size=(100, 3)).astype(np.float32) + 8 * labels[:, None]
    monkeypatch.setattr("vision_jax.evaluation.probes.STRENGTHS", (1e3, 1e-2))
    chosen = fit_probe(apart, labels)  # so strong a penalty leaves the bias alone
    assert chosen.l2 == 1e-2
    np.testing.assert_array_equal(chosen.kernel, fit_probe(apart, labels, l2=1e-2).kernel)
    assert np.all(fit_probe(apart, labels, l2=1e3).predict(apart) == 0)
    monkeypatch.setattr("vision_jax.evaluation.probes.STRENGTHS", (1e-1, 1e-2))
    assert fit_probe(apart, labels).l2 == 1e-1, "the strongest of equals"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_probe(PIXELS[:3], LABELS[:2]), "vectors has 3 rows and labels 2"),
        (lambda: fit_probe(PIXELS[:2], np.array([1, 1])), "labels has 1 class"),
        (lambda: fit_probe(PIXELS[:2] / np.float32(0), np.array([0, 1])), "2 of 2 rows with NaN"),
        (lambda: fit_probe(PIXELS[:2], np.array([0, 1]), l2=-1.0), "l2 is -1.0"),
        (lambda: fit_probe(PIXELS[:2], np.array([0, -1])), "labels is down to -1"),
        (lambda: knn_predict(PIXELS[:2], LABELS[:2], PIXELS[:2, :3]), "queries has width 3"),
        (lambda: knn_predict(PIXELS[:2], LABELS[:2], PIXELS[:2], k=0), "k is 0"),
        (
            lambda: knn_predict(PIXELS[:2], LABELS[:2], PIXELS[:2], temperature=0.0),
            "temperature is 0.0",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
