"""Maximal marginal relevance, against its definition in NumPy."""

import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.search import maximal_marginal_relevance

Q, C, D = 5, 30, 8


@pytest.fixture(scope="module")
def candidates():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((Q, C, D)).astype(np.float32)
    queries = rng.standard_normal((Q, 1, D))
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    scores = (unit * queries / np.linalg.norm(queries, axis=2, keepdims=True)).sum(2)
    order = np.argsort(-scores, axis=1)
    vectors = np.take_along_axis(vectors, order[..., None], 1)
    return np.take_along_axis(scores, order, 1).astype(np.float32), 3 * vectors


def greedy(scores, vectors, k, mmr):
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = []
    for _ in range(k):
        worth = {
            i: mmr * scores[i] - (1 - mmr) * max([unit[i] @ unit[j] for j in chosen], default=0)
            for i in range(len(scores))
            if i not in chosen and scores[i] > -np.inf
        }
        chosen.append(max(worth, key=worth.get) if worth else -1)
    return chosen


@pytest.mark.parametrize("mmr", [0.0, 0.3, 0.7])
def test_each_is_the_best_by_definition(candidates, mmr):
    scores, vectors = candidates
    places = maximal_marginal_relevance(scores, vectors, 12, mmr=mmr)
    assert places.tolist() == [greedy(scores[q], vectors[q], 12, mmr) for q in range(Q)]


def test_a_lambda_of_one_is_the_plain_search(candidates):
    scores, vectors = candidates
    tied = scores.copy()
    tied[:, 3:9] = tied[:, 3:4]
    places = maximal_marginal_relevance(tied, vectors, 12, mmr=1.0)
    assert places.tolist() == [list(range(12))] * Q


def test_missing_candidates_are_never_chosen(candidates):
    scores, vectors = (part.copy() for part in candidates)
    scores[2, 4:] = -np.inf
    vectors[2, 4:] = 0
    for mmr in (0.0, 0.5, 1.0):
        places = maximal_marginal_relevance(scores, vectors, 6, mmr=mmr)
        assert sorted(places[2].tolist()) == [-1, -1, 0, 1, 2, 3]
        assert places[2, -2:].tolist() == [-1, -1]
        assert (places[[0, 1, 3, 4]] >= 0).all()
    assert maximal_marginal_relevance(scores[:, :3], vectors[:, :3], 5).shape == (Q, 5)


@pytest.mark.parametrize("mmr", [-0.1, 1.5, float("nan")])
def test_a_lambda_out_of_range_is_refused(candidates, mmr):
    with pytest.raises(InputError, match=r"mmr is .*; a number in \[0, 1\] is needed"):
        maximal_marginal_relevance(*candidates, 3, mmr=mmr)
