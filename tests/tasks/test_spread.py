"""Signs of collapse, against their formulas written out."""

import numpy as np
import pytest

from vision_jax.tasks.spread import collapse, spread


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32) * [
        5,
        3,
        1,
        1,
        1,
        1,
        1,
        0,
    ]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_figures_are_those_of_the_papers(vectors):
    labels = np.arange(60) % 7
    found, rows = spread(vectors, labels), unit(vectors)
    singular = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    shares = singular[singular > 1e-12] / singular.sum()
    assert found["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found["deviation"] == pytest.approx(rows.std(0).mean() * np.sqrt(8))
    squares = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    pairs = np.triu_indices(60, 1)
    assert found["uniformity"] == pytest.approx(np.log(np.exp(-2 * squares[pairs]).mean()))
    same = (labels[:, None] == labels)[pairs]
    assert found["alignment"] == pytest.approx(squares[pairs][same].mean())


def test_a_sphere_is_filled_and_lengths_and_zeros_do_not_matter(vectors):
    sphere = np.random.default_rng(1).normal(size=(4000, 16))
    found = spread(sphere)
    assert found["deviation"] == pytest.approx(1, abs=0.02)
    assert found["effective_rank"] == pytest.approx(16, rel=0.01)
    more = np.concatenate([vectors * np.arange(1, 61)[:, None], np.zeros((5, 8))])
    for name, value in spread(more).items():
        assert value == pytest.approx(spread(vectors)[name]), name


def test_collapse_is_told_by_its_kind(vectors):
    assert collapse(spread(vectors)) is None
    alike = np.ones((50, 8)) + 1e-4 * np.random.default_rng(0).normal(size=(50, 8))
    assert "nearly the same embedding" in collapse(spread(alike))
    line = np.outer(np.linspace(-1, 1, 51), np.ones(8)) + np.eye(8)[0]
    assert "along one line" in collapse(spread(np.outer(np.sign(line[:, 1]), np.ones(8))))


def test_what_always_lies_along_a_line_has_not_collapsed():
    random = np.random.default_rng(0)
    poles = np.outer(np.repeat([1, -1], 20), np.ones(8)) + 1e-2 * random.normal(size=(40, 8))
    labels = np.repeat([0, 1], 20)
    for vectors, own in (
        (random.normal(size=(2, 8)), None),  # two images
        (random.normal(size=(40, 1)), None),  # one dimension
        (poles, labels),  # two classes, well apart
    ):
        assert collapse(spread(vectors, own)) is None
    assert "along one line" in collapse(spread(poles))
    assert "along one line" in collapse(spread(poles, np.arange(40) % 3))
    assert "nearly the same embedding" in collapse(spread(poles[:20], labels[::2]))


def test_infinite_vectors_are_left_out_and_a_dead_network_has_collapsed(vectors):
    odd = np.stack([np.full(8, value) for value in (np.inf, np.nan)])
    found = spread(np.concatenate([vectors, odd]), np.arange(62) % 7)
    assert found == pytest.approx(spread(vectors, np.arange(60) % 7))
    assert "nearly the same embedding" in collapse(spread(np.zeros((5, 3)), np.zeros(5, int)))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_vectors_have_no_figures(count):
    found = spread(np.ones((count, 4)), np.zeros(count, int))
    assert all(np.isnan(value) for value in found.values())
    assert collapse(found) is None
