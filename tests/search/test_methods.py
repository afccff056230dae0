"""Every method of the table answers as the protocol says, through the index."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from vision_jax.search import METHODS, CosineIndex, Index
from vision_jax.search.methods import find_method
from vision_jax.search.protocol import Method

DIM, K = 8, 10
EXACT = [name for name in METHODS if name not in ("hnsw", "inverted_file")]


@pytest.fixture(scope="module")
def gallery():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((40, DIM))
    rows = centers[np.arange(1500) % 40] + 0.4 * rng.standard_normal((1500, DIM))
    rows[700:710] = rows[:10]  # ties
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(1).permutation(5000)[:1500]  # not ascending


@pytest.fixture(scope="module")
def index(gallery, ids):
    index = CosineIndex(DIM)
    index.add(gallery, ids=ids)
    return index


def brute_force(queries, gallery, ids, k):
    unit = gallery / np.linalg.norm(gallery.astype(np.float64), axis=1, keepdims=True)
    asked = queries / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    scores = np.round(asked @ unit.T, 6)  # equal rows score equally
    order = np.lexsort((np.broadcast_to(ids, scores.shape), -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), ids[order]


def recall(found, truth):
    return (truth[:, :, None] == found[:, None, :]).any(2).mean()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("queries", [1, 60])
def test_the_nearest_are_found(index, gallery, ids, method, queries):
    scores, found = index.search(gallery[:queries], K, method=method)
    expected_scores, expected = brute_force(gallery[:queries], gallery, ids, K)
    assert (scores.dtype, found.dtype) == (np.float32, np.int64)
    assert (np.diff(scores) <= 0).all()
    if method in EXACT:
        np.testing.assert_allclose(scores, expected_scores, atol=2e-6)
        assert recall(found, expected) > 0.99  # where scores differ by rounding
    else:
        assert recall(found, expected) >= 0.95


@pytest.mark.parametrize("method", METHODS)
def test_ties_go_to_the_lower_id(method):
    index = CosineIndex(DIM)
    row = np.ones((1, DIM), np.float32)
    index.add(np.repeat(row, 30, 0), ids=np.arange(100, 70, -1))
    index.add(-np.eye(DIM, dtype=np.float32))
    index.add(row, ids=[5])
    np.testing.assert_array_equal(index.search(row, 4, method=method)[1], [[5, 71, 72, 73]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["mask", "masks", "ids", "lists of ids"])
def test_filters_leave_only_what_they_allow(index, gallery, ids, method, kind):
    allowed = np.random.default_rng(2).random((3, 1500)) < 0.02
    if kind in ("mask", "ids"):
        allowed[:] = allowed[0]
    where = {
        "mask": allowed[0],
        "masks": allowed,
        "ids": ids[allowed[0]],
        "lists of ids": [ids[row].tolist() for row in allowed],
    }[kind]
    _, found = index.search(gallery[:3], 5, where, method=method)
    for query, row, mask in zip(gallery[:3], found, allowed, strict=True):
        expected = brute_force(query[None], gallery[mask], ids[mask], 5)[1][0]
        assert set(row.tolist()) <= set(ids[mask].tolist())
        if method in EXACT:
            np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("method", METHODS)
def test_places_that_nothing_fills_are_missing(method):
    index = CosineIndex(DIM)
    index.add(np.eye(DIM)[:3])
    scores, found = index.search(np.eye(DIM)[:2], 5, method=method)
    np.testing.assert_array_equal(found, [[0, 1, 2, -1, -1], [1, 0, 2, -1, -1]])
    np.testing.assert_array_equal(scores == -np.inf, found < 0)
    _, found = index.search(np.eye(DIM)[:2], 5, where=[2], method=method)
    np.testing.assert_array_equal(found, [[2, -1, -1, -1, -1]] * 2)
    assert index.search([], 5, method=method)[1].shape == (0, 5)
    np.testing.assert_array_equal(index.search_by_id([0], 1, method=method)[1], [[1]])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_changes_are_followed(gallery, method):
    index = CosineIndex(DIM)
    index.add(gallery[:600])
    nearest = index.search(gallery[:40], 1, method=method)[1][:, 0]
    np.testing.assert_array_equal(nearest, np.arange(40))
    index.remove(nearest)
    found = index.search(gallery[:40], 3, method=method)[1]
    assert not set(found.ravel().tolist()) & set(nearest.tolist())
    index.add(gallery[:40], ids=nearest)
    np.testing.assert_array_equal(index.search(gallery[:40], 1, method=method)[1][:, 0], nearest)


def test_an_option_reaches_its_method(index, gallery, ids):
    everything = index.search(gallery[:9], K, method="inverted_file", nprobe=20)[1]
    one = index.search(gallery[:9], K, method="inverted_file", nprobe=1)[1]
    truth = brute_force(gallery[:9], gallery, ids, K)[1]
    assert recall(one, truth) < recall(everything, truth)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_fulfils_its_protocol(index, method):
    built = find_method(method)(index._rows, index._table.by_id[1])
    assert isinstance(built, Method)


def test_the_index_fulfils_the_protocol(index):
    assert isinstance(index, Index)


def test_the_names_of_methods_come_without_jax():
    code = "import sys; from vision_jax.search import METHODS; assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", METHODS)
def test_an_index_of_nothing_finds_nothing(method):
    index = CosineIndex(DIM)
    for _ in range(2):
        scores, found = index.search(np.ones((2, DIM)), 3, method=method)
        assert (scores == -np.inf).all()
        assert (found == -1).all()
        index.remove(index.add(np.eye(DIM)))


@pytest.mark.slow
def test_every_method_works_with_numbers_of_64_bits(tmp_path):
    """JAX's setting for them turns the type of every plain integer."""
    script = """
        import jax, numpy as np
        jax.config.update("jax_enable_x64", True)
        from vision_jax.search import METHODS, CosineIndex, augment_database, cosine_top_k
        vectors = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
        index = CosineIndex(8)
        index.add(vectors)
        for method in METHODS:
            assert (index.search(vectors[:9], 1, method=method)[1][:, 0] == np.arange(9)).all()
        assert (cosine_top_k(vectors[:9], vectors, 1)[1][:, 0] == np.arange(9)).all()
        assert augment_database(vectors).shape == vectors.shape
    """
    (tmp_path / "x64.py").write_text(textwrap.dedent(script))
    subprocess.run([sys.executable, tmp_path / "x64.py"], check=True)
