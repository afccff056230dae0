import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.search import cosine_similarity, cosine_top_k

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


def test_k_beyond_the_gallery_is_padded():
    scores, ids = cosine_top_k(jnp.ones((2, 4)), jnp.ones((3, 4)), 5)
    np.testing.assert_array_equal(ids, [[0, 1, 2, -1, -1]] * 2)
    assert (np.asarray(scores)[:, 3:] == -np.inf).all()


@pytest.mark.parametrize("width", [3, 5])
def test_widths_must_agree(width):
    with pytest.raises(ValueError, match=rf"\(2, {width}\) and \(3, 4\)"):
        cosine_top_k(jnp.ones((2, width)), jnp.ones((3, 4)), 1)


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="got 0"):
        cosine_top_k(jnp.ones((2, 4)), jnp.ones((3, 4)), 0)
