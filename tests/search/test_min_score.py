"""`min_score` on every search, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.search import METHODS, CosineIndex, InvertedFile, cosine_top_k, streamed_top_k

QUERIES, ITEMS, DIM, K = 9, 400, 6, 30


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((ITEMS, DIM)).astype(np.float32)
    rows[100:110] = rows[:10]
    return rng.standard_normal((QUERIES, DIM)).astype(np.float32), rows


def searches(rows):
    """Each search as a function of (queries, **options)."""
    index, lists = CosineIndex(DIM), InvertedFile(rows, nlist=4, nprobe=4)
    index.add(rows)
    found = {
        name: lambda q, name=name, **o: index.search(q, K, method=name, **o) for name in METHODS
    }
    return found | {
        "pure": lambda q, **o: tuple(map(np.asarray, cosine_top_k(q, rows, K, **o))),
        "streamed": lambda q, **o: streamed_top_k(q, rows, K, block=128, **o),
        "lists": lambda q, **o: lists.search(q, K, **o),
    }


NAMES = [*METHODS, "pure", "streamed", "lists"]


@pytest.fixture(scope="module")
def every(vectors):
    return searches(vectors[1])


@pytest.mark.parametrize("name", NAMES)
def test_what_scores_less_is_not_found_and_what_scores_the_same_is(every, vectors, name):
    queries, rows = vectors
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    cosines = (asked.astype(np.float64) @ unit.T.astype(np.float64)).astype(np.float32)
    scores, ids = every[name](queries)
    tie = float(scores[3, 11])  # the score of an item itself
    for least in (-1, 0.5, tie, np.nextafter(np.float32(tie), np.float32(2)), 1.0):
        some, which = every[name](queries, min_score=least)
        kept = scores >= np.float32(least)
        np.testing.assert_array_equal(some, np.where(kept, scores, -np.inf))
        np.testing.assert_array_equal(which, np.where(kept, ids, -1))
        assert (some.dtype, which.dtype) == (scores.dtype, ids.dtype)
    assert every[name](queries, min_score=tie)[1][3, 11] == ids[3, 11]
    assert every[name](queries, min_score=np.nextafter(np.float32(tie), 2))[1][3, 11] == -1
    # Nothing that belongs is missing: NumPy counts as many, away from rounding.
    many = (cosines >= 0.7).sum(1)
    assert (np.abs(cosines - 0.7) > 1e-6).all()
    np.testing.assert_array_equal((every[name](queries, min_score=0.7)[1] >= 0).sum(1), many)
    assert 0 < many.min() <= many.max() < K


def test_neighbours_of_an_indexed_vector_leave_it_out_and_reach_the_score(vectors):
    _, rows = vectors
    index = CosineIndex(DIM)
    index.add(rows)
    scores, ids = index.search_by_id([0, 1], 20)
    some, which = index.search_by_id([0, 1], 20, min_score=0.8)
    np.testing.assert_array_equal(which, np.where(scores >= 0.8, ids, -1))
    np.testing.assert_array_equal(some, np.where(scores >= 0.8, scores, -np.inf))
    assert which[:, 0].tolist() == [100, 101]
    assert index.search_by_id([5], 3, where=[7], min_score=1.0)[1].tolist() == [[-1] * 3]


def test_it_may_be_traced_and_gradients_pass(vectors):
    queries, rows = vectors

    def total(queries, least):
        scores, ids = cosine_top_k(queries, rows, K, min_score=least)
        return jnp.sum(jnp.where(ids >= 0, scores, 0.0)), ids

    (value, ids), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(queries, 0.5)
    scores, expected = map(np.asarray, cosine_top_k(queries, rows, K, min_score=0.5))
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(value, scores[expected >= 0].sum(), rtol=1e-5)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


@pytest.mark.parametrize("name", ["exact", "pure", "streamed", "lists"])
@pytest.mark.parametrize("wrong", [80, -1.5, float("nan"), True, np.array([0.5, 0.5])])
def test_what_is_no_cosine_is_refused(every, vectors, name, wrong):
    with pytest.raises(InputError, match=r"min_score is .*; a cosine in \[-1, 1\] is needed"):
        every[name](vectors[0], min_score=wrong)
