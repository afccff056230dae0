"""Queries made of examples, against their formula."""

import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.search import combine_examples


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_query_is_the_formula(weight):
    rng = np.random.default_rng(0)
    likes, unlikes = 5 * rng.standard_normal((4, 7)), rng.standard_normal((3, 7))
    mean = unit(likes).mean(0) - weight * unit(unlikes).mean(0)
    found = combine_examples(likes, unlikes, weight=weight)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)
    assert found.dtype == np.float32


def test_without_unlikes_it_is_the_mean_direction():
    rows = np.random.default_rng(1).standard_normal((3, 5))
    mean = unit(rows).mean(0)
    for unlikes in (None, np.zeros((0, 5))):
        found = combine_examples(rows, unlikes)
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize(
    ("likes", "unlikes", "weight", "message"),
    [
        ([[1, 2]], [[2, 4]], 1.0, "cancel out: what is left has length"),
        ([[1, 2], [-1, -2]], [], 1.0, "cancel out"),
        (np.zeros((0, 2)), [[1, 2]], 1.0, "there are 0 likes; at least 1"),
        ([[0, 0]], [], 1.0, "likes is zero, NaN or infinite"),
        ([[1, 2]], [[np.nan, 1]], 1.0, "unlikes is zero, NaN or infinite"),
        ([[1, 2]], [[1, 2, 3]], 1.0, "unlikes is .*real numbers are needed"),
        ([[1, 2]], [], -1.0, "weight is -1.0; a finite number of at least 0"),
        ([[1, 2]], [], float("inf"), "weight is inf"),
    ],
)
def test_what_gives_no_query_is_refused(likes, unlikes, weight, message):
    with pytest.raises(InputError, match=message):
        combine_examples(likes, unlikes, weight=weight)
