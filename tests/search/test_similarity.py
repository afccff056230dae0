import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.search import (
    augment_database,
    cosine_similarity,
    cosine_top_k,
    expand_queries,
    kernel,
    streamed_top_k,
)
from vision_jax.search.similarity import normalize

RNG = np.random.default_rng(0)


def brute_force(queries, gallery, k):
    scores = np.asarray(cosine_similarity(jnp.asarray(queries), jnp.asarray(gallery)))
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, ids, 1), ids


def test_equals_a_stable_sort_with_ties():
    gallery = RNG.standard_normal((700, 16), np.float32)
    gallery[300:600] = gallery[:300]
    queries = gallery[:5] * np.float32(3)
    scores, ids = cosine_top_k(jnp.asarray(queries), jnp.asarray(gallery), 10)
    expected_scores, expected_ids = brute_force(queries, gallery, 10)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)


@pytest.mark.parametrize("queries", [1, 3, 16])
@pytest.mark.parametrize(
    ("items", "dim"), [(7, 5), (701, 16), (4100, 100), (9999, 7), (100_001, 24)]
)
def test_equal_rows_score_equally_wherever_they_are(queries, items, dim):
    gallery = np.tile(RNG.standard_normal((1, dim), np.float32), (items, 1))
    asked = RNG.standard_normal((queries, dim), np.float32)
    scores, ids = cosine_top_k(jnp.asarray(asked), jnp.asarray(gallery), 5)
    np.testing.assert_array_equal(ids, [np.arange(5)] * queries)
    assert (scores == scores[:, :1]).all()


@pytest.mark.parametrize("items", [4096 + 33, 20_000])
def test_large_galleries_equal_a_stable_sort(items):
    gallery = RNG.standard_normal((items, 8), np.float32)
    gallery[-200:] = gallery[:200]
    queries = np.concatenate([gallery[:3] * np.float32(3), RNG.standard_normal((140, 8))])
    queries = queries.astype(np.float32)
    scores, ids = cosine_top_k(jnp.asarray(queries), jnp.asarray(gallery), 10)
    expected_scores, expected_ids = brute_force(queries, gallery, 10)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
    assert (np.asarray(ids) == expected_ids).mean() > 0.99  # where scores differ by rounding
    np.testing.assert_array_equal(ids[:3, 0], [0, 1, 2])
    np.testing.assert_array_equal(ids[:3, 1], items - 200 + np.arange(3))


@pytest.mark.parametrize("k", [100, 600])
def test_any_k(k):
    gallery = RNG.standard_normal((20_000, 8), np.float32)
    scores, ids = cosine_top_k(jnp.asarray(gallery[:2]), jnp.asarray(gallery), k)
    expected_scores, _ = brute_force(gallery[:2], gallery, k)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-6)
    assert all(len(set(row.tolist())) == k for row in np.asarray(ids))


def test_vectors_that_are_no_numbers():
    gallery = np.array(RNG.standard_normal((5000, 8)), np.float32)
    gallery[3], gallery[4], gallery[5] = np.nan, np.inf, 0
    queries = np.stack([gallery[7], gallery[3], gallery[4]])
    scores, ids = cosine_top_k(jnp.asarray(queries), jnp.asarray(gallery), 5000)
    assert ids[0, 0] == 7
    assert set(np.asarray(ids[0]).tolist()) == set(range(5000)) - {3, 4} | {-1}
    assert (ids[1:] == -1).all()
    assert (scores[1:] == -np.inf).all()
    assert scores[0, np.argwhere(np.asarray(ids[0]) == 5)[0, 0]] == 0


def test_bfloat16_gallery_and_normalized_rows():
    gallery = RNG.standard_normal((5000, 8), np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    asked = jnp.asarray(gallery[:20])
    rounded = jnp.asarray(gallery, jnp.bfloat16)
    _, ids = cosine_top_k(asked, rounded, 3)
    _, expected = cosine_top_k(asked, rounded.astype(jnp.float32), 3)
    np.testing.assert_array_equal(ids, expected)
    _, ids = cosine_top_k(asked, jnp.asarray(gallery), 3, normalized=True)
    _, expected = cosine_top_k(asked, jnp.asarray(gallery), 3)
    np.testing.assert_array_equal(ids, expected)


def test_memory_does_not_grow_as_the_product_of_queries_and_items():
    shapes = jnp.zeros((4096, 8)), jnp.zeros((65_536, 8))
    compiled = jax.jit(cosine_top_k, static_argnums=2).lower(*shapes, 10).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 4 * 4096 * 65_536 / 20


def test_it_can_be_jitted_and_differentiated_through_the_scores():
    gallery = jnp.asarray(RNG.standard_normal((50, 8), np.float32))

    def best(queries):
        return cosine_top_k(queries, gallery, 1)[0].sum()

    assert jax.jit(best)(gallery[:2]) == pytest.approx(2, rel=1e-5)
    assert np.abs(jax.grad(best)(gallery[:2])).max() < 1e-5  # a maximum of the cosine


def test_normalize_survives_extreme_scales():
    rows = jnp.asarray([[3e30, 4e30], [3e-30, 4e-30], [0, 0]], jnp.float32)
    np.testing.assert_allclose(normalize(rows), [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)


def test_cosine_similarity_equals_the_formula():
    queries, gallery = RNG.standard_normal((4, 9)), RNG.standard_normal((6, 9))
    expected = (
        queries @ gallery.T / np.outer(*(np.linalg.norm(x, axis=1) for x in (queries, gallery)))
    )
    found = cosine_similarity(*(jnp.asarray(x, jnp.float32) for x in (queries, gallery)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_k_beyond_the_gallery_is_padded():
    scores, ids = cosine_top_k(jnp.ones((2, 4)), jnp.ones((3, 4)), 5)
    np.testing.assert_array_equal(ids, [[0, 1, 2, -1, -1]] * 2)
    assert (np.asarray(scores)[:, 3:] == -np.inf).all()


@pytest.mark.parametrize("width", [3, 5])
def test_widths_must_agree(width):
    with pytest.raises(ValueError, match=rf"\(2, {width}\) and gallery \(3, 4\)"):
        cosine_top_k(jnp.ones((2, width)), jnp.ones((3, 4)), 1)


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="k is 0"):
        cosine_top_k(jnp.ones((2, 4)), jnp.ones((3, 4)), 0)


def test_no_queries_find_nothing():
    for count in (0, 100, 5000):
        gallery = np.ones((count, 8), np.float32)
        for search in (cosine_top_k, streamed_top_k):
            scores, ids = search(np.zeros((0, 8), np.float32), gallery, 3)
            assert scores.shape == ids.shape == (0, 3)
        assert expand_queries(np.zeros((0, 8), np.float32), gallery).shape == (0, 8)
    assert augment_database(np.zeros((0, 8), np.float32)).shape == (0, 8)


@pytest.mark.slow
def test_products_of_bytes_that_exceed_int32_are_not_taken():
    """Of vectors wider than 133,144 the int8 products of bright images pass 2^31."""
    dim, count = 136_000, 512
    values = np.random.default_rng(0).integers(-127, 128, (count, dim), dtype=np.int8)
    values[0] = np.where(np.arange(dim) < 0.6 * dim, 127, 0)
    values[500:] = 127  # the query itself
    scale = 1 / np.linalg.norm(values.astype(np.float32), axis=1)
    rows = kernel.Rows(jnp.asarray(values), jnp.asarray(scale))
    query = jnp.full((1, dim), 1 / np.sqrt(dim), jnp.float32)
    where = jnp.ones((1, count), bool)
    coarse = kernel.Coarse(rows, jnp.float32(0))
    search = jax.jit(kernel.search_coarse, static_argnums=(5, 6))
    scores, ids, proven = search(query, rows, coarse, where, count, 1, "int8")
    assert not bool(proven[0]) or (int(ids[0, 0]), float(scores[0, 0])) == (
        500,
        pytest.approx(1, abs=1e-3),
    )
