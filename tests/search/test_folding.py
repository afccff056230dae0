"""Folding near-duplicates, against the whole ranking and the groups of the whole index."""

import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.search import CosineIndex, NearGroups, near_duplicates
from vision_jax.search.folding import fold

DIM, THRESHOLD = 6, 0.97


@pytest.fixture(scope="module")
def index():
    """60 things, a few of them photographed many times, in a chain."""
    rng = np.random.default_rng(0)
    things = rng.standard_normal((60, DIM))
    rows = [things]
    for thing, count in ((0, 70), (1, 25), (2, 3)):
        steps = 0.15 * np.cumsum(rng.standard_normal((count, DIM)), axis=0)
        rows.append(things[thing] + steps)
    vectors = np.concatenate(rows).astype(np.float32)
    index = CosineIndex(DIM)
    index.add(vectors, ids=rng.permutation(1000)[: len(vectors)])
    return index


def groups_of(index, allowed):
    """The group of each id, by comparing all with all."""
    found = near_duplicates(index.vectors(allowed), THRESHOLD)
    groups = {int(item): [int(item)] for item in allowed}
    for group in found:
        members = sorted(allowed[group.rows].tolist())
        groups |= dict.fromkeys(members, members)
    return groups


def oracle(scores, ids, groups, k):
    seen, kept = set(), []
    for score, item in zip(scores, ids, strict=True):
        if item >= 0 and groups[item][0] not in seen:
            seen.add(groups[item][0])
            kept.append((score, item))
    return kept[:k]


@pytest.mark.parametrize("k", [1, 10, 1000])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_best_of_each_group_is_found(index, k, share):
    rng = np.random.default_rng(1)
    allowed = np.sort(rng.permutation(index.ids)[: int(share * len(index))])
    where = None if share == 1 else allowed
    groups = groups_of(index, allowed)
    assert max(map(len, groups.values())) > 20
    queries = index.vectors(index.ids[[0, 1, 30, 80]])  # near many, and near few
    most = len(allowed)
    found = fold(
        lambda size: index.search(queries, size, where),
        k,
        NearGroups(index, THRESHOLD, where),
        most,
    )
    scores, ids = index.search(queries, most, where)
    for row in range(len(queries)):
        expected = oracle(scores[row].tolist(), ids[row].tolist(), groups, k)
        there = found.ids[row] >= 0
        assert found.ids[row][there].tolist() == [item for _, item in expected]
        np.testing.assert_allclose(found.scores[row][there], [s for s, _ in expected], atol=1e-6)
        assert (found.scores[row][~there] == -np.inf).all()
        assert found.groups[row] == [groups[item] for _, item in expected]
    assert found.ids.shape == (4, k)


def test_a_least_score_ends_the_list(index):
    queries = index.vectors(index.ids[:2])
    near = NearGroups(index, THRESHOLD)
    found = fold(lambda size: index.search(queries, size, min_score=0.6), 50, near, len(index))
    assert (found.scores[found.ids >= 0] >= 0.6).all()
    every = index.search(queries, len(index), min_score=0.6)
    groups = groups_of(index, index.ids)
    for row in range(2):
        expected = oracle(every[0][row], every[1][row].tolist(), groups, 50)
        assert found.ids[row][found.ids[row] >= 0].tolist() == [item for _, item in expected]


def test_vectors_that_lie_in_a_file_are_not_put_on_one_device(index, tmp_path, monkeypatch):
    index.save(tmp_path / "x.index")
    stored = CosineIndex.load(tmp_path / "x.index", method="sharded")
    groups = NearGroups(stored, THRESHOLD, method="sharded")
    methods, search = set(), CosineIndex.search
    monkeypatch.setattr(
        CosineIndex,
        "search",
        lambda self, *args, **options: (
            methods.add(options["method"]) or search(self, *args, **options)
        ),
    )
    assert groups.of(index.ids[:9]) == NearGroups(index, THRESHOLD).of(index.ids[:9])
    assert methods == {"sharded", "exact"}


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_a_threshold_out_of_range_is_refused(index, threshold):
    with pytest.raises(InputError, match="fold is"):
        NearGroups(index, threshold)
