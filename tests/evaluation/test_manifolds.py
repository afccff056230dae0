import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from vision_jax.errors import InputError
from vision_jax.evaluation.manifolds import measure_coverage

RNG = np.random.default_rng(0)


def test_it_is_the_papers_by_whole_matrices(monkeypatch):
    monkeypatch.setattr("vision_jax.evaluation.manifolds._ROWS", 17)  # the last part is padded
    made = RNG.normal(0.5, 0.7, (60, 6)).astype(np.float32) + 100
    real = RNG.normal(0, 1, (80, 6)).astype(np.float32) + 100
    across = pairwise_distances(made, real)
    radii = np.sort(pairwise_distances(real), 1)[:, 3]
    own = np.sort(pairwise_distances(made), 1)[:, 3]
    found = measure_coverage(made, real, k=3)
    assert found.precision == pytest.approx(np.mean((across <= radii).any(1)))
    assert found.recall == pytest.approx(np.mean((across <= own[:, None]).any(0)))
    assert found.density == pytest.approx(np.mean((across <= radii).sum(1)) / 3)
    assert found.coverage == pytest.approx(np.mean(across.min(0) <= radii))
    assert 0 < found.recall < found.precision < 1


def test_copies_of_one_image_are_precise_and_cover_little():
    real = RNG.normal(size=(200, 4)).astype(np.float32)
    copies = real[:1] + 1e-3 * RNG.normal(size=(200, 4)).astype(np.float32)
    found = measure_coverage(copies, real)
    assert found.precision == 1
    assert found.coverage < 0.1
    assert found.recall < 0.05
    alike = measure_coverage(real, real)
    assert alike[:2] == (1, 1)
    assert alike.coverage == 1


@pytest.mark.parametrize(
    ("made", "real", "k", "message"),
    [
        (np.ones((9, 2)), np.ones((9, 3)), 5, "the same width"),
        (np.ones((5, 2)), np.ones((9, 2)), 5, "k is 5; .* 5 and 9"),
        (np.ones((9, 2)), np.ones((9, 2)), 0, "k is 0"),
        (np.ones((9, 2)) * np.nan, np.ones((9, 2)), 5, "features has rows with NaN"),
    ],
)
def test_bad_input_is_named(made, real, k, message):
    with pytest.raises(InputError, match=message):
        measure_coverage(made, real, k=k)
