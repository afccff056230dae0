import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.search.expansion import augment_database, expand_queries


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 6)), rng.standard_normal((40, 6))


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_queries_gain_their_neighbours(data, alpha):
    queries, gallery = unit(data[0]), unit(data[1])
    expected = []
    for query in queries:
        scores = gallery @ query
        best = np.argsort(-scores)[:4]
        expected.append(query + (scores[best, None] ** alpha * gallery[best]).sum(0))
    rows, items = (jnp.asarray(part * 3, jnp.float32) for part in (queries, gallery))
    found = expand_queries(rows, items, k=4, alpha=alpha)
    np.testing.assert_allclose(found, unit(np.array(expected)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_gallery_vectors_gain_their_neighbours_but_not_themselves(data, alpha):
    gallery = unit(data[1])
    expected = []
    for row, item in enumerate(gallery):
        scores = gallery @ item
        scores[row] = -np.inf
        best = np.argsort(-scores)[:3]
        expected.append(item + (scores[best, None] ** alpha * gallery[best]).sum(0))
    found = augment_database(jnp.asarray(gallery, jnp.float32), k=3, alpha=alpha)
    np.testing.assert_allclose(found, unit(np.array(expected)), rtol=1e-4, atol=1e-5)


def test_equal_vectors_stay_as_they_are():
    gallery = jnp.tile(jnp.asarray([[3.0, 4.0]]), (20, 1))
    np.testing.assert_allclose(augment_database(gallery, k=2), [[0.6, 0.8]] * 20, rtol=1e-6)


def test_a_neighbour_that_points_away_does_not_pull():
    query, opposite = jnp.asarray([[1.0, 0.0]]), jnp.asarray([[-1.0, 0.1]])
    np.testing.assert_allclose(expand_queries(query, opposite, k=1, alpha=3.0), query, atol=1e-6)
