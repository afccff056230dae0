import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from vision_jax.errors import InputError
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


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_complete_linkage_is_scipys(threshold):
    rng = np.random.default_rng(2)
    centers = rng.standard_normal((12, 8))
    rows = centers[np.arange(150) % 12] + 0.5 * rng.standard_normal((150, 8))
    groups = near_duplicates(rows, threshold, linkage="complete")
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float64)
    distance = squareform(np.clip(1 - unit @ unit.T, 0, None), checks=False)
    labels = fcluster(linkage(distance, "complete"), 1 - threshold, "distance")
    expected = {
        tuple(np.flatnonzero(labels == label)) for label in set(labels) if sum(labels == label) > 1
    }
    assert {tuple(group.rows) for group in groups} == expected
    assert len(groups) > 4
    for group in groups:
        assert (unit[group.rows] @ unit[group.rows].T).min() >= threshold - 1e-6


def test_a_chain_is_one_group_and_its_complete_groups_are_several():
    angles = np.deg2rad([0, 8, 16, 24, 32])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1)
    chain = near_duplicates(rows, np.cos(np.deg2rad(10)))
    assert [group.rows.tolist() for group in chain] == [[0, 1, 2, 3, 4]]
    pairs = near_duplicates(rows, np.cos(np.deg2rad(10)), linkage="complete")
    assert sorted(group.rows.tolist() for group in pairs) in ([[0, 1], [2, 3]], [[0, 1], [3, 4]])


def test_of_equally_near_rows_the_first_are_joined_first():
    rows = np.array([[1, 0], [1, 1], [0, 1], [-1, 1]])  # each at 45 degrees to the next
    groups = near_duplicates(rows, 0.7, linkage="complete")
    assert [group.rows.tolist() for group in groups] == [[0, 1], [2, 3]]


def test_copies_and_leaks_with_complete_linkage():
    rows = np.repeat(make()[:5], 3, axis=0)
    splits = np.zeros(15, int)
    splits[14] = 1
    groups = near_duplicates(rows, 1.0, splits=splits, linkage="complete")
    assert [group.rows[0] for group in groups] == [12, 0, 3, 6, 9]
    assert [group.leaks for group in groups] == [True, False, False, False, False]


def test_an_unknown_linkage_and_too_long_a_chain_are_refused(monkeypatch):
    with pytest.raises(InputError, match="linkage is 'average'; chain or complete is needed"):
        duplicates.near_duplicates.__wrapped__(make(), 0.9, linkage="average")
    monkeypatch.setattr(duplicates, "LARGEST", 2)
    with pytest.raises(InputError, match=r"3 vectors are connected by cosines of 0\.99 or more"):
        near_duplicates(np.ones((3, 4)), linkage="complete")
