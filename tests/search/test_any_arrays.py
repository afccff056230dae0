"""Public functions against NumPy, over arrays that hypothesis draws."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vision_jax.errors import InputError
from vision_jax.evaluation.distances import frechet_distance, kernel_distance
from vision_jax.search import CosineIndex, cosine_top_k, evaluate_retrieval

quick = settings(max_examples=12, deadline=None, derandomize=True, database=None)

DIM = 3
# Few shapes, for a shape is compiled once; whole numbers, whose cosines are told apart or equal.
FORMS = (list, np.asarray, lambda rows: np.asarray(rows, np.float16), lambda rows: tuple(rows))


@st.composite
def matrices(draw, counts=(1, 2, 5)):
    """Rows of small whole numbers without a zero row, in some form."""
    count = draw(st.sampled_from(counts))
    row = st.lists(st.integers(-4, 4), min_size=DIM, max_size=DIM).filter(any)
    rows = draw(st.lists(row, min_size=count, max_size=count))
    return draw(st.sampled_from(FORMS))(rows), np.asarray(rows, np.float64)


def cosines(a, b):
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))
    return a @ b.T


def assert_best(scores, found, truth, allowed):
    """The best allowed scores, each the cosine of the place named with it, none of them twice."""
    for row, places, all_scores, mask in zip(scores, found, truth, allowed, strict=True):
        best = np.sort(all_scores[mask])[::-1][: len(row)]
        held = places[places >= 0]
        assert len(held) == len(best) == len(set(held.tolist()))
        assert mask[held].all()
        np.testing.assert_allclose(row[: len(best)], best, atol=1e-5)
        np.testing.assert_allclose(all_scores[held], row[: len(best)], atol=1e-5)
        assert (row[len(best) :] == -np.inf).all()


@quick
@given(matrices(), matrices(counts=(2, 5)), st.sampled_from([1, 3, 7]))
def test_top_k_is_brute_force(queries, gallery, k):
    scores, found = map(np.asarray, cosine_top_k(queries[0], gallery[0], k))
    truth = cosines(queries[1], gallery[1])
    assert_best(scores, found, truth, np.ones(truth.shape, bool))


@quick
@given(st.data())
def test_an_index_follows_any_changes(data):
    """Adds, removes and searches, against a dictionary of the rows."""
    index, held = CosineIndex(DIM), {}
    for _ in range(data.draw(st.integers(1, 4))):
        given_rows, rows = data.draw(matrices())
        index_ids = index.add(given_rows).tolist()
        held |= dict(zip(index_ids, rows, strict=True))
        gone = data.draw(st.lists(st.sampled_from(sorted(held)), unique=True, max_size=2))
        index.remove(gone)
        for item in gone:
            del held[item]
    assert sorted(index.ids.tolist()) == sorted(held)
    assume(held)
    ids = index.ids
    queries, asked = data.draw(matrices())
    mask = np.asarray(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
    form = data.draw(st.sampled_from([mask, mask.tolist(), ids[mask].tolist(), tuple(ids[mask])]))
    scores, found = index.search(queries, 3, where=form)
    truth = cosines(asked, np.stack([held[item] for item in ids.tolist()]))
    place = {item: i for i, item in enumerate(ids.tolist())} | {-1: -1}
    places = np.vectorize(place.get)(found)
    assert_best(scores, places, truth, np.broadcast_to(mask, truth.shape))
    with pytest.raises(InputError):
        index.remove([10**6])


@quick
@given(matrices(counts=(5,)), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_retrieval_is_counted_by_hand(rows, labels):
    """Over queries with another image of their class; ties would leave the order open."""
    truth = cosines(rows[1], rows[1])
    np.fill_diagonal(truth, -np.inf)
    assume(all(len(set(np.round(row, 4))) == 5 for row in truth))
    same = np.equal.outer(labels, labels) & ~np.eye(5, dtype=bool)
    assume(same.any())
    order = np.argsort(-truth, axis=1)[:, :4]
    hits = np.take_along_axis(same, order, 1)[same.any(1)]
    first = hits.argmax(1) + 1
    found = evaluate_retrieval(rows[0], labels, ks=(1, 3))
    assert found["queries"] == len(hits)
    for k in (1, 3):
        assert found[f"precision@{k}"] == pytest.approx(hits[:, :k].mean(), abs=1e-6)
    assert found["mrr"] == pytest.approx((1 / first).mean(), abs=1e-6)


@quick
@given(matrices(counts=(5,)), matrices(counts=(5,)))
def test_distances_are_those_of_numpy(a, b):
    def kernel(x, y):
        return (x @ y.T / DIM + 1) ** 3

    x, y = a[1], b[1]
    own = sum((kernel(z, z).sum() - np.trace(kernel(z, z))) / (5 * 4) for z in (x, y))
    expected = own - 2 * kernel(x, y).mean()
    found = kernel_distance(np.asarray(a[0], np.float32), np.asarray(b[0], np.float32))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    same = frechet_distance(np.asarray(a[0], np.float32), np.asarray(a[0], np.float32))
    assert same == pytest.approx(0, abs=1e-5)
