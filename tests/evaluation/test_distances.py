from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from vision_jax.errors import InputError
from vision_jax.evaluation.distances import frechet_distance, kernel_distance

RNG = np.random.default_rng(0)
A = RNG.standard_normal((1500, 6), np.float32) @ RNG.standard_normal((6, 6), np.float32)
B = RNG.standard_normal((1100, 6), np.float32) + np.float32(0.5)


def square_root(matrix):
    """The root of a matrix with positive eigenvalues."""
    values, vectors = np.linalg.eig(matrix)
    return (vectors * np.sqrt(values.real)) @ np.linalg.inv(vectors)


def test_frechet_distance_equals_its_definition():
    (ca, cb), gap = (
        (np.cov(x.astype(np.float64), rowvar=False) for x in (A, B)),
        A.mean(0) - B.mean(0),
    )
    expected = gap @ gap + np.trace(ca + cb - 2 * square_root(ca @ cb).real)
    assert frechet_distance(A, B) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(B, A) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_of_a_shift_and_a_scale():
    """For N(m, s²) per axis it is the sum of (m - m')² + (s - s')²."""
    moved = A * np.float32(3) + np.float32(2)
    gap = moved.mean(0, np.float64) - A.mean(0, np.float64)
    deviations = np.trace(np.cov(A.astype(np.float64), rowvar=False)) * (3 - 1) ** 2
    assert frechet_distance(moved, A) == pytest.approx(gap @ gap + deviations, rel=1e-4)
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_fewer_images_than_features():
    wide = RNG.standard_normal((5, 40), np.float32)
    assert frechet_distance(wide, wide) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(wide, wide + np.float32(1)) == pytest.approx(40, rel=1e-4)


def unbiased_mmd(a, b):
    def kernel(x, y):
        return polynomial_kernel(
            x.astype(np.longdouble), y.astype(np.longdouble), degree=3, coef0=1
        )

    def within(x):
        gram = kernel(x, x)
        return (gram.sum() - np.trace(gram)) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * kernel(a, b).mean()


def test_kernel_distance_equals_its_definition():
    assert kernel_distance(A, B) == pytest.approx(unbiased_mmd(A, B), rel=1e-9)


@pytest.mark.parametrize(("mean", "scale"), [(0, 1e-5), (1e-3, 1e-4), (30, 1), (1000, 1)])
def test_kernel_distance_keeps_sign_and_size_at_any_mean_and_scale(mean, scale):
    rng = np.random.default_rng(2)
    a, b = (rng.normal(mean, scale, (40, 16)).astype(np.float32) for _ in range(2))
    moved = b + np.float32(scale / 50)
    for other in (b, moved):
        expected = exact_mmd(a, other)
        assert kernel_distance(a, other) == pytest.approx(expected, rel=1e-5)


def exact_mmd(a, b):
    """The definition in Python's integers, which float32 numbers are up to a power of 2."""
    width, bits = a.shape[1], 60
    x, y = (np.ldexp(rows.astype(np.float64), bits).astype(object) for rows in (a, b))
    x, y = (np.vectorize(int, otypes=[object])(rows) for rows in (x, y))
    one = width << (2 * bits)

    def kernel(u, v):
        return (u @ v.T + one) ** 3

    def within(u):
        gram = kernel(u, u)
        return Fraction(int(gram.sum() - np.trace(gram)), len(u) * (len(u) - 1))

    across = Fraction(int(kernel(x, y).sum()), len(x) * len(y))
    return float((within(x) + within(y) - 2 * across) / one**3)


def test_kernel_distance_is_unbiased():
    """Over many small samples of one distribution it is 0 on average."""
    rows = np.random.default_rng(1).standard_normal((40, 2, 30, 3), np.float32)
    found = [kernel_distance(a, b) for a, b in rows]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0 < max(found)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_sets_that_cannot_be_compared_are_named(distance):
    with pytest.raises(InputError, match=r"\(1500, 6\) and \(1500, 5\)"):
        distance(A, A[:, :5])
    with pytest.raises(InputError, match="two rows or more"):
        distance(A[:1], A)
    bad = A.copy()
    bad[[5, 9], [0, 1]] = np.nan, np.inf
    with pytest.raises(InputError, match=r"features has 2 of 1500 rows .* first at \[5, 9\]"):
        distance(bad, B)
    with pytest.raises(InputError, match="reference has 2 of 1500 rows"):
        distance(B, bad)
