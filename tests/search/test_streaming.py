import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.search import cosine_top_k
from vision_jax.search.streaming import streamed_top_k


@pytest.fixture
def mapped(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1003, 8), np.float32)
    rows[900:950] = rows[:50]
    np.save(tmp_path / "rows.npy", rows)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize("block", [100, 1003, 5000])
def test_blocks_equal_the_whole(mapped, block):
    queries = np.array(mapped[:7]) * np.float32(4)
    scores, ids = streamed_top_k(queries, mapped, 5, block=block)
    expected_scores, expected = cosine_top_k(jnp.asarray(queries), jnp.asarray(mapped), 5)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)
    assert ids.dtype == np.int64


def test_k_beyond_the_gallery_is_padded(mapped):
    scores, ids = streamed_top_k(np.ones((2, 8), np.float32), mapped[:3], 5, block=2)
    assert (ids[:, 3:] == -1).all()
    assert (scores[:, 3:] == -np.inf).all()
    assert (np.sort(ids[:, :3], axis=1) == [0, 1, 2]).all()


def test_an_empty_gallery_finds_nothing(mapped):
    _, ids = streamed_top_k(np.ones((1, 8), np.float32), mapped[:0], 2)
    np.testing.assert_array_equal(ids, [[-1, -1]])


@pytest.mark.parametrize(
    ("width", "options", "message"),
    [
        (7, {"k": 1}, r"\(1, 7\) and gallery \(1003, 8\)"),
        (8, {"k": 0}, "k is 0"),
        (8, {"k": 1, "block": 0}, "block is 0"),
    ],
)
def test_bad_input_is_named(mapped, width, options, message):
    with pytest.raises(ValueError, match=message):
        streamed_top_k(np.ones((1, width), np.float32), mapped, **options)
