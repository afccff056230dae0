import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from vision_jax.search import (
    average_precision,
    average_precision_at_r,
    evaluate_retrieval,
    hit_rate_at_k,
    knn_accuracy,
    precision_at_k,
    r_precision,
    recall_at_k,
    reciprocal_rank,
)

RANKING = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
RELEVANT = np.array([4, 1, 0])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 130)
    rows = rng.standard_normal((130, 8)) + 1.5 * np.eye(8)[labels]
    return rows.astype(np.float32), labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (precision_at_k(RANKING, 3), [2 / 3, 0, 0]),
        (precision_at_k(RANKING, 10), [3 / 10, 1 / 10, 0]),
        (recall_at_k(RANKING, RELEVANT, 3), [2 / 4, 0, 0]),
        (hit_rate_at_k(RANKING, 1), [1, 0, 0]),
        (reciprocal_rank(RANKING), [1, 1 / 5, 0]),
        (r_precision(RANKING, RELEVANT), [3 / 4, 0, 0]),
        (average_precision_at_r(RANKING, RELEVANT), [(1 + 2 / 3 + 3 / 4) / 4, 0, 0]),
        (average_precision(RANKING, RELEVANT), [(1 + 2 / 3 + 3 / 4) / 4, 1 / 5, 0]),
    ],
)
def test_metrics_equal_their_formulas(values, expected):
    np.testing.assert_allclose(values, expected)


def test_map_equals_scikit_learn(data):
    rows, labels = data
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = unit[:30] @ unit[30:].T
    expected = np.mean(
        [
            average_precision_score(labels[30:] == label, row)
            for label, row in zip(labels[:30], scores, strict=True)
        ]
    )
    found = evaluate_retrieval(rows[:30], labels[:30], rows[30:], labels[30:])
    assert found["map"] == pytest.approx(expected)
    assert found["queries"] == 30


@pytest.mark.parametrize("k", [1, 5])
def test_knn_accuracy_equals_scikit_learn(data, k):
    rows, labels = data
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    oracle = KNeighborsClassifier(k, algorithm="brute").fit(unit[30:], labels[30:])
    found = evaluate_retrieval(rows[:30], labels[:30], rows[30:], labels[30:], ks=(k,))
    assert found[f"knn_accuracy@{k}"] == pytest.approx(oracle.score(unit[:30], labels[:30]))


def test_missing_neighbours_have_no_vote():
    assert knn_accuracy(np.array([[1, -1, -1], [0, 2, 2]]), np.array([1, 2])) == 1


def test_queries_do_not_find_themselves(data):
    rows, labels = data
    found = evaluate_retrieval(rows, labels)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    relevant = labels[order] == labels[:, None]
    count = relevant.sum(1)
    assert found["map@r"] == pytest.approx(average_precision_at_r(relevant, count).mean())
    assert found["precision@5"] == pytest.approx(precision_at_k(relevant, 5).mean())
    assert found["r_precision"] == pytest.approx(r_precision(relevant, count).mean())
    assert found["mrr"] == pytest.approx(reciprocal_rank(relevant).mean())


@pytest.mark.parametrize("budget", [1, 130 * 7, 1 << 20])
def test_parts_do_not_change_the_figures(data, budget):
    rows, labels = data
    whole = evaluate_retrieval(jnp.asarray(rows), labels)
    parts = evaluate_retrieval(jnp.asarray(rows), labels, budget=budget)
    assert parts == pytest.approx(whole)


def test_ties_go_to_the_lower_row():
    rows = np.ones((4, 2), np.float32)
    found = evaluate_retrieval(rows[:1], np.array([1]), rows, np.array([1, 0, 1, 0]), ks=(1, 2))
    assert found["precision@1"] == 1
    assert found["precision@2"] == 0.5
    assert found["map"] == pytest.approx((1 + 2 / 3) / 2)


def test_given_rows_are_ignored():
    rows = np.float32([[1, 0], [0.9, 0.1], [0, 1]])
    found = evaluate_retrieval(
        rows[:1], np.array([0]), rows, np.array([0, 1, 0]), ks=(1,), ignore=np.array([0])
    )
    assert found["precision@1"] == 0
    assert found["map"] == 0.5


def test_queries_without_relevant_items_are_not_counted():
    rows = np.eye(3, dtype=np.float32)
    found = evaluate_retrieval(rows, np.array([0, 0, 1]), ks=(1,))
    assert found["queries"] == 2
    with pytest.raises(ValueError, match="no query has a relevant item"):
        evaluate_retrieval(rows, np.arange(3), ks=(1,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_at_k(RANKING, 0), "k is 0"),
        (lambda: knn_accuracy(np.zeros((2, 1), int), np.zeros(3, int)), "2 rows for 3 labels"),
        (
            lambda: evaluate_retrieval(np.ones((2, 2)), np.zeros(2, int), np.ones((2, 2))),
            "together",
        ),
        (lambda: evaluate_retrieval(np.ones((2, 2)), np.zeros(2, int), ks=(0,)), "ks is 0"),
        (
            lambda: evaluate_retrieval(np.ones((2, 2)), np.zeros(3, int)),
            "query_labels has 3 entries; 2 are needed",
        ),
        (
            lambda: evaluate_retrieval(np.ones((2, 2)), np.zeros(2, int), ignore=np.array([0, 2])),
            r"ignore is 2; .*\[-1, 2\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
