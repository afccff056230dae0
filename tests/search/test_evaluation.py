import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from vision_jax.errors import DataWarning, InputError
from vision_jax.search import (
    average_precision,
    average_precision_at_r,
    evaluate_retrieval,
    evaluation,
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


def test_a_query_without_neighbours_is_wrong():
    assert knn_accuracy([[-1, -1], [0, -1]], [0, 0]) == 0.5
    assert knn_accuracy(np.zeros((2, 0), int), [0, 0]) == 0


def test_knn_accuracy_counts_queries_whose_class_the_gallery_lacks():
    rng = np.random.default_rng(0)
    rows, labels = rng.standard_normal((60, 4), np.float32), np.arange(60) % 3
    items = np.where(labels[30:] == 2, 0, labels[30:])  # no class 2
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    oracle = KNeighborsClassifier(3, algorithm="brute").fit(unit[30:], items)
    found = evaluate_retrieval(rows[:30], labels[:30], rows[30:], items, ks=(3,))
    assert found["queries"] == 20
    assert found["knn_accuracy@3"] == pytest.approx(oracle.score(unit[:30], labels[:30]))
    near = items[np.argsort(-(unit[:30] @ unit[30:].T), axis=1)[:, :3]]
    assert found["knn_accuracy@3"] == knn_accuracy(near, labels[:30])


@pytest.mark.parametrize("value", [0, np.nan, np.inf, -np.inf])
def test_embeddings_without_direction_are_named_and_left_out(data, value):
    rows, labels = data
    bad, kept = rows.copy(), np.setdiff1d(np.arange(130), [0, 7, 129])
    bad[[0, 7, 129]] = value
    with pytest.warns(DataWarning, match=r"3 of 130 queries are zero.*rows \[0, 7, 129\]"):
        found = evaluate_retrieval(bad, labels)
    expected = evaluate_retrieval(rows[kept], labels[kept])
    assert found == pytest.approx(expected | {"left_out_queries": 3, "left_out_gallery": 3})
    ignore = np.where(np.arange(130) == 5, 7, np.arange(130))  # one is told to ignore a lost row
    with pytest.warns(DataWarning) as warned:
        found = evaluate_retrieval(rows, labels, bad, labels, ignore=ignore)
    assert [str(entry.message)[:23] for entry in warned] == ["3 of 130 gallery are ze"]
    places = np.full(131, -1)
    places[kept] = np.arange(127)
    expected = evaluate_retrieval(rows, labels, rows[kept], labels[kept], ignore=places[ignore])
    assert found == pytest.approx(expected | {"left_out_gallery": 3})


def test_no_embedding_with_a_direction_is_an_error(data):
    rows, labels = data
    with pytest.warns(DataWarning), pytest.raises(InputError, match="no query has a relevant"):
        evaluate_retrieval(np.zeros_like(rows), labels)


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
        (lambda: evaluate_retrieval(np.ones((2, 2)), [0, -1]), "query_labels is down to -1"),
        (
            lambda: evaluate_retrieval(np.ones((2, 2)), [0, 0], np.ones((2, 3)), [0, 0]),
            "the same width",
        ),
        (lambda: recall_at_k(RANKING, [4, 1], 3), "num_relevant has 2 entries; 3 are needed"),
        (lambda: recall_at_k(RANKING, [2, 1, 0], 3), "num_relevant is 2 in row 0; at least the 3"),
        (lambda: knn_accuracy(np.zeros((0, 2), int), []), "0 labels"),
        (lambda: knn_accuracy([[-2]], [0]), "down to -2"),
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


def test_votes_of_some_queries_at_a_time_are_those_of_all(monkeypatch):
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(40, 8)), rng.normal(size=(60, 8))
    labels = rng.integers(0, 7, 100)
    values = (queries, labels[:40], gallery, labels[40:])
    whole = evaluate_retrieval(*values, ks=(5,))
    monkeypatch.setattr(evaluation, "_VOTES", 16)
    assert evaluate_retrieval(*values, ks=(5,)) == whole
