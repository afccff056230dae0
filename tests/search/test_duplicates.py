import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from vision_jax.search import duplicates
from vision_jax.search.duplicates import near_duplicates


def make(count=90, dim=12):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, dim), np.float32)
    rows[40] = rows[3] * 2
    rows[80] = rows[3] + 1e-3
    rows[60] = rows[7]
    return rows


@pytest.mark.parametrize("block", [16, 2048])
def test_groups_are_the_connected_components(monkeypatch, block):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    rows = make()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    _, labels = connected_components(unit @ unit.T >= 0.7)
    expected = {
        tuple(np.flatnonzero(labels == label)) for label in set(labels) if sum(labels == label) > 1
    }
    groups = near_duplicates(rows, 0.7)
    assert {tuple(group.rows) for group in groups} == expected
    assert len(groups) > 3
    assert not any(group.leaks for group in groups)


def test_leaks_come_first_then_the_larger():
    splits = np.zeros(90, int)
    splits[60] = 1
    groups = near_duplicates(make(), 0.999, splits=splits)
    assert [group.rows.tolist() for group in groups] == [[7, 60], [3, 40, 80]]
    assert [group.leaks for group in groups] == [True, False]


def test_exact_copies_reach_a_threshold_of_one():
    rows = np.repeat(make()[:5], 3, axis=0)
    assert [group.rows.tolist() for group in near_duplicates(rows, 1.0)] == [
        [3 * i, 3 * i + 1, 3 * i + 2] for i in range(5)
    ]


def test_nothing_alike_gives_no_groups():
    assert near_duplicates(np.eye(6, dtype=np.float32)) == []


def test_more_rows_than_the_root_of_32_bits_are_joined():
    labels = np.arange(70_000)
    for pair in ([3, 69_998], [69_998, 69_999]):
        labels = duplicates._join(labels, np.array(pair[:1]), np.array(pair[1:]))
    assert set(np.flatnonzero(labels == labels[3])) == {3, 69_998, 69_999}
    assert len(np.unique(labels)) == 69_998


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_the_threshold_is_checked(threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold}"):
        near_duplicates(make(), threshold)


def test_there_must_be_a_split_per_vector():
    with pytest.raises(ValueError, match="splits has 3 entries; 90 are needed"):
        near_duplicates(make(), splits=np.zeros(3, int))
