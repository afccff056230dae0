import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.errors import DataWarning, InputError
from vision_jax.search import CosineIndex, cosine_top_k, inverted_file
from vision_jax.search.inverted_file import InvertedFile, k_means


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((60, 16))
    rows = centers[rng.integers(0, 60, 4000)] + 0.5 * rng.standard_normal((4000, 16))
    queries = centers[rng.integers(0, 60, 150)] + 0.5 * rng.standard_normal((150, 16))
    return rows.astype(np.float32), queries.astype(np.float32)


@pytest.fixture(scope="module")
def truth(data):
    return cosine_top_k(jnp.asarray(data[1]), jnp.asarray(data[0]), 10)


@pytest.fixture(scope="module")
def lists(data):
    return InvertedFile(data[0], nlist=64)


def test_the_default_reaches_its_recall_and_looks_at_few(data, truth, lists):
    report = lists.recall(data[1], truth[1])
    assert report.recall >= 0.95
    assert report.share < 0.5
    assert report.nprobe == lists.nprobe


def test_all_lists_find_all(data, truth, lists):
    scores, found = lists.search(data[1], 10, nprobe=64)
    np.testing.assert_array_equal(found, truth[1])
    np.testing.assert_allclose(scores, truth[0], rtol=1e-5)


def test_recall_grows_with_the_lists_probed(data, truth, lists):
    recalls = [lists.recall(data[1], truth[1], nprobe=n).recall for n in (1, 8, 64)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1


def test_scores_are_those_of_the_rows_found(data, lists):
    scores, found = lists.search(data[1][:1], 5)
    row, query = data[0][found[0]].astype(np.float64), data[1][0]
    expected = row @ query / np.linalg.norm(row, axis=1) / np.linalg.norm(query)
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_the_same_key_gives_the_same_lists(data, lists):
    np.testing.assert_array_equal(InvertedFile(data[0], nlist=64).centroids, lists.centroids)


def test_places_beyond_what_was_probed_are_missing():
    scores, found = InvertedFile(np.eye(3, dtype=np.float32), nlist=2).search(np.ones((1, 3)), 5)
    np.testing.assert_array_equal(found, [[0, 1, 2, -1, -1]])
    assert (scores[0, 3:] == -np.inf).all()


def test_k_means_finds_separated_directions():
    rng = np.random.default_rng(0)
    label = np.arange(300) % 3
    rows = np.eye(3)[label] + 0.05 * rng.standard_normal((300, 3))
    rows = jnp.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), jnp.float32)
    for seed in range(20):
        centroids = np.asarray(k_means(jax.random.key(seed), rows, 3))
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
        nearest = np.argmax(rows @ centroids.T, axis=1)
        if len(set(nearest[:3].tolist())) == 3:
            np.testing.assert_array_equal(nearest, nearest[:3][label])
            return
    pytest.fail("no start of 20 found the three directions")


@pytest.mark.parametrize("share", [0.5, 0.01, 0.0005])
def test_a_filter_that_leaves_few_still_fills_what_it_can(data, lists, share):
    allowed = np.random.default_rng(3).random((2, 4000)) < share
    asked = data[1][:2]
    for where in (allowed, allowed[0]):
        _, found = lists.search(asked, 10, where, nprobe=2)
        masks = np.broadcast_to(where, (2, 4000))
        for row, mask in zip(found, masks, strict=True):
            assert (row >= 0).sum() == min(10, mask.sum())
            assert mask[row[row >= 0]].all()
    few = np.flatnonzero(allowed[1])[:5]
    _, found = lists.search(asked, 10, few.tolist(), nprobe=1)
    unit = data[0][few] / np.linalg.norm(data[0][few], axis=1, keepdims=True)
    np.testing.assert_array_equal(found[:, : len(few)], few[np.argsort(-(asked @ unit.T))])
    assert (found[:, len(few) :] == -1).all()


def test_more_neighbours_than_the_probed_lists_hold(data):
    _, found = InvertedFile(data[0], nlist=64, nprobe=1).search(data[1], 500)
    assert (found >= 0).all()
    assert all(len(set(row.tolist())) == 500 for row in found)


def test_vectors_without_clusters_are_searched_exactly_and_that_is_said(monkeypatch):
    """Where lists save nothing, exact search is several times faster."""
    rows = np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32)
    monkeypatch.setattr(inverted_file, "LARGE", 600)
    index = CosineIndex(64)
    index.add(rows)
    with pytest.warns(DataWarning, match=r"would compare \d+% of them .* so exact search"):
        found = index.search(rows[:50], 10, method="inverted_file")
    np.testing.assert_array_equal(found[1], index.search(rows[:50], 10)[1])
    few = index.search(rows[:50], 10, method="inverted_file", nprobe=1)[1]
    assert (few != found[1]).any()


def test_clustered_vectors_are_searched_by_lists(data):
    index = CosineIndex(16)
    index.add(data[0])
    found = index.search(data[0][:200], 11, method="inverted_file")[1]
    truth = index.search(data[0][:200], 11)[1]
    assert index._methods.current["inverted_file"].exact is None
    hits = [len({*a} & {*b}) - 1 for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
    assert np.mean(hits) / 10 >= 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lists: InvertedFile(np.ones((0, 2), np.float32)), "0 rows"),
        (lambda lists: InvertedFile([[1, 2], [0, 0]]), r"1 of 2 rows: \[1\]"),
        (lambda lists: InvertedFile(np.ones((3, 2)), nlist=4), r"nlist is 4; .*\[1, 3\]"),
        (lambda lists: InvertedFile(np.ones((3, 2)), nprobe=9), "nprobe is 9"),
        (lambda lists: lists.search(np.ones((1, 3)), 1), r"\(1, 3\); \(N, 16\)"),
        (lambda lists: lists.search(np.ones((1, 16)), 0), "k is 0"),
        (lambda lists: lists.search(np.ones((1, 16)), 1, nprobe=65), "nprobe is 65"),
        (lambda lists: lists.search(np.ones((1, 16)), 1, [4000]), r"\[0, 4000\): \[4000\]"),
    ],
)
def test_bad_input_is_named(lists, call, message):
    with pytest.raises(InputError, match=message):
        call(lists)
