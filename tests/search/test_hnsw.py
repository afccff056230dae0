"""Search over a graph: what it finds, what filters leave, changes, and the graph in a file."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vision_jax.errors import DataWarning, InputError
from vision_jax.search import CosineIndex, IndexFileError, hnsw, index_file
from vision_jax.search.approximate import choose

COUNT, DIM, K = 5000, 48, 10


@pytest.fixture(scope="module", autouse=True)
def followed():
    """Have the graph answer, though so few vectors are searched faster exactly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hnsw, "WORTHWHILE", 0.5)
        yield


@pytest.fixture(scope="module")
def gallery():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((30, DIM))
    rows = centers[np.arange(COUNT) % 30] + 0.7 * rng.standard_normal((COUNT, DIM))
    rows[3000:3010] = rows[:10]  # ties
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(1).permutation(20_000)[:COUNT]  # not ascending


@pytest.fixture(scope="module")
def built(gallery, ids):
    index = CosineIndex(DIM)
    index.add(gallery, ids=ids)
    index.build("hnsw")
    return index


@pytest.fixture(scope="module")
def queries(gallery):
    rng = np.random.default_rng(2)
    return gallery[:100] + 0.1 * rng.standard_normal((100, DIM)).astype(np.float32)


def nearest(index, queries, k, mask=None):
    """The ids of the true neighbours; -1 beyond those that a mask, (N,) or (Q, N), allows."""
    ids = np.sort(index.ids)
    vectors, asked = index.vectors(ids).astype(np.float64), queries.astype(np.float64)
    cosines = np.round(asked @ vectors.T / np.linalg.norm(asked, axis=1, keepdims=True), 6)
    if mask is not None:
        cosines = np.where(mask[..., np.argsort(index.ids)], cosines, -np.inf)
    places = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(cosines, places, 1) > -np.inf, ids[places], -1)


def recall(found, truth):
    return float((truth[:, :, None] == found[:, None, :]).any(2).mean())


def test_the_graph_finds_what_was_measured_and_scores_as_exact_search(built, queries):
    assert built.graph.recall >= 0.97
    assert built.graph.share < hnsw.WORTHWHILE  # so that it is the graph that answers
    scores, found = built.search(queries, K, method="hnsw")
    assert recall(found, nearest(built, queries, K)) >= 0.95
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    cosines = (built.vectors(found.ravel()).reshape(-1, K, DIM) * unit[:, None]).sum(2)
    np.testing.assert_allclose(scores, cosines, atol=1e-6)
    assert (np.diff(scores) <= 0).all()
    for scale in (1e-30, 1e30):  # whose squares underflow and overflow
        again = built.search(queries * np.float32(scale), K, method="hnsw")[1]
        assert recall(again, found) > 0.999


def test_equal_vectors_come_in_the_order_of_their_ids(built, gallery, ids):
    scores, found = built.search(gallery[:10], 2, method="hnsw")
    np.testing.assert_array_equal(found, np.sort([ids[:10], ids[3000:3010]], axis=0).T)
    np.testing.assert_array_equal(scores[:, 0], scores[:, 1])


def test_a_search_may_look_further(built, queries):
    truth = nearest(built, queries, K)
    few = recall(built.search(queries, K, method="hnsw", ef=10)[1], truth)
    many = recall(built.search(queries, K, method="hnsw", ef=400)[1], truth)
    assert few < many
    assert many > 0.995
    with pytest.raises(InputError, match="ef is 0"):
        built.search(queries, K, method="hnsw", ef=0)
    with pytest.raises(InputError, match="'nprobe' is no option of method 'hnsw'; it has ef"):
        built.search(queries, K, method="hnsw", nprobe=3)


@pytest.mark.parametrize(("share", "k"), [(0.8, K), (0.3, K), (0.02, K), (3 / COUNT, K), (0.3, 99)])
def test_a_filtered_search_finds_as_many_as_there_are(built, queries, share, k):
    where = np.random.default_rng(3).permutation(COUNT) < share * COUNT
    scores, found = built.search(queries, k, where, method="hnsw")
    assert set(found.ravel().tolist()) - {-1} <= set(built.ids[where].tolist())
    assert ((found >= 0).sum(1) == min(k, where.sum())).all()
    np.testing.assert_array_equal(scores == -np.inf, found < 0)
    assert recall(found, nearest(built, queries, k, where)) >= 0.95


def test_a_filter_that_leaves_only_what_is_far_is_answered_right(built, queries):
    """Nodes passed on the way to a query may be found, but are not the nearest that may."""
    far = nearest(built, -queries[:1], COUNT // 2)[0]
    where = np.isin(built.ids, far)
    found = built.search(queries[:1], K, where, method="hnsw")[1]
    np.testing.assert_array_equal(found, nearest(built, queries[:1], K, where))


@pytest.mark.slow
def test_each_query_may_have_a_filter_of_its_own(built, queries):
    rng = np.random.default_rng(4)
    where = np.stack([rng.random(COUNT) < share for share in (0.8, 0.4, 0.001, 0.0)])
    _, found = built.search(queries[:4], K, where, method="hnsw")
    truth = nearest(built, queries[:4], K, where)
    np.testing.assert_array_equal((found < 0).sum(1), (truth < 0).sum(1))
    assert recall(found, truth) >= 0.95


@pytest.mark.slow
def test_changes_keep_the_graph(gallery, queries):
    index = CosineIndex(DIM)
    index.add(gallery[:4900])
    index.build("hnsw", recall=0.9)
    graph = index._methods.current["hnsw"]._index
    index.add(gallery[4900:])
    gone = np.arange(0, 900, 2)
    index.remove(gone)
    _, found = index.search(queries, K, method="hnsw")
    now = index._methods.current["hnsw"]
    assert now._index is graph
    assert index.graph.target == 0.9
    assert not set(found.ravel().tolist()) & set(gone.tolist())
    assert recall(found, nearest(index, queries, K)) >= 0.9
    index.add(gallery[:2], ids=[2, 0])  # in slots of their own, and not the vectors these ids had
    found = index.search(gallery[:2], 1, method="hnsw")[1]
    np.testing.assert_array_equal(found, [[2], [0]])
    index.remove(index.ids[:3000])  # most: what is left moves
    found = index.search(queries, K, method="hnsw")[1]
    assert recall(found, nearest(index, queries, K)) >= 0.9


def test_the_graph_is_kept_in_the_file(built, queries, tmp_path, monkeypatch):
    built.save(tmp_path / "one")
    monkeypatch.setattr(hnsw.Hnsw, "_measure", None)  # would fail: nothing is measured again
    opened = CosineIndex.load(tmp_path / "one")
    assert opened.graph == built.graph
    opened.save(tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()
    for left, right in zip(
        opened.search(queries, K, method="hnsw"),
        built.search(queries, K, method="hnsw"),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)
    opened.save(tmp_path / "three")
    assert (tmp_path / "three").read_bytes() == (tmp_path / "one").read_bytes()


def test_another_type_takes_the_graph_along(built, queries, monkeypatch):
    monkeypatch.setattr(hnsw.Hnsw, "_measure", None)
    rounded = built.as_type("int8")
    assert (rounded.dtype, rounded.graph) == ("int8", built.graph)
    assert built.as_type("float32") is built
    found = rounded.search(queries, K, method="hnsw")[1]
    assert recall(found, nearest(built, queries, K)) >= 0.9


@pytest.mark.slow
def test_a_changed_index_is_saved_with_a_graph_of_what_is_left(built, gallery, queries, tmp_path):
    built.save(tmp_path / "one")
    index = CosineIndex.load(tmp_path / "one")
    index.remove(index.ids[:50])
    index.add(gallery[:100])
    index.save(tmp_path / "two")
    again = CosineIndex.load(tmp_path / "two")
    assert again.graph.target == built.graph.target
    np.testing.assert_array_equal(again.ids, index.ids)
    found = again.search(queries, K, method="hnsw")[1]
    assert recall(found, nearest(again, queries, K)) >= 0.95


def test_a_graph_that_leads_astray_is_refused(built, tmp_path):
    built.save(tmp_path / "one")
    content = index_file.read(tmp_path / "one")
    graph = content.graph
    low = int(np.flatnonzero(graph.levels == 1)[0])
    top = int(np.flatnonzero(graph.levels > 1)[0])
    upper = graph.links.copy()
    upper[graph.offsets[top] + 2 * graph.connections] = low  # a node that is not on that level
    outside = graph.links.copy()
    outside[0] = COUNT
    for bad in (
        graph._replace(entry=COUNT),
        graph._replace(entry=low),
        graph._replace(links=upper),
        graph._replace(links=outside),
        graph._replace(links=graph.links[:-8]),
        graph._replace(levels=graph.levels + 1),
        graph._replace(connections=0),
        graph._replace(fit=graph.fit._replace(ef=0)),
        graph._replace(fit=graph.fit._replace(recall=2.0)),
    ):
        index_file.write(tmp_path / "bad", content._replace(graph=bad))
        with pytest.raises(IndexFileError, match="the graph is not one that was saved here"):
            CosineIndex.load(tmp_path / "bad")


def test_without_the_extra_it_is_named(built, queries, tmp_path, monkeypatch):
    built.save(tmp_path / "one")
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = CosineIndex.load(tmp_path / "one")
    np.testing.assert_array_equal(index.search(queries, K)[1], nearest(built, queries, K))
    for _ in range(2):
        with pytest.raises(InputError, match=r"pip install 'vision_jax\[ann\]'"):
            index.search(queries, K, method="hnsw")
    index.save(tmp_path / "two")  # the graph stays
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()
    index.remove(index.ids[:1])
    with pytest.warns(DataWarning, match="saved without the graph"):
        index.save(tmp_path / "two")
    assert CosineIndex.load(tmp_path / "two").graph is None


@pytest.mark.slow
def test_vectors_without_clusters_are_searched_exactly_and_that_is_said(monkeypatch):
    monkeypatch.setattr(hnsw, "WORTHWHILE", 0.03)
    rows = np.random.default_rng(5).standard_normal((hnsw.LARGE, 64)).astype(np.float32)
    index = CosineIndex(64)
    index.add(rows)
    with pytest.warns(DataWarning, match="exact search, which is faster then"):
        found = index.search(rows[:50], K, method="hnsw")[1]
    assert recall(found, nearest(index, rows[:50], K)) == 1


def test_the_approximate_method_that_suits(monkeypatch):
    assert choose(hnsw.LARGE - 1) == "exact"
    assert choose(hnsw.LARGE) == "hnsw"
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert choose(hnsw.LARGE) == "inverted_file"


def test_bad_options_are_refused(built):
    with pytest.raises(InputError, match=r"recall is 1.5"):
        built.build("hnsw", recall=1.5)
    with pytest.raises(InputError, match="'recall' is no option of method 'exact'; it has none"):
        built.build("exact", recall=0.9)
    with pytest.raises(InputError, match="method is 'best'"):
        built.build("best")


def test_many_threads_find_what_one_does(built, queries):
    truth = built.search(queries, K, method="hnsw")[1]
    with ThreadPoolExecutor(4) as pool:
        parts = [slice(start, start + 7) for start in range(0, 100, 7)]
        call = lambda part: built.search(queries[part], K, method="hnsw")[1]  # noqa: E731
        found = list(pool.map(call, parts * 3))
    for part, rows in zip(parts * 3, found, strict=True):
        np.testing.assert_array_equal(rows, truth[part])


def test_a_graph_and_its_recall_outlive_the_removal_of_most_vectors(gallery, tmp_path):
    index = CosineIndex(DIM)
    ids = index.add(gallery[:2600])
    index.build("hnsw", recall=0.99)
    index.remove(ids[:1400])  # of which so few are left that the rows are packed anew
    index.save(tmp_path / "few.index")
    assert index.graph.target == 0.99
    assert CosineIndex.load(tmp_path / "few.index").graph == index.graph
