"""Fold near-duplicates: one result for each group of them."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vision_jax.search import arrays
from vision_jax.search.duplicates import SLACK, check_threshold
from vision_jax.search.index import CosineIndex
from vision_jax.search.protocol import Found

_NEIGHBOURS = 16  # of a vector, looked up at first
_MORE = 4  # times as many, where all of these are near


class NearGroups:
    """The groups of near-duplicates of an index, found as they are asked for.

    A group is what `near_duplicates` calls one: vectors connected by cosines of at least a
    threshold, directly or through others. Only the neighbourhood of what is asked for is searched,
    so that a large index need not be compared with itself.

    Args:
        index: The index; it must not change meanwhile.
        threshold: In (0, 1].
        among: (N,) the ids that groups are made of; by default all.
        method: As for `CosineIndex.search`; one that is exact, such as "sharded".

    Raises:
        InputError: If the threshold is out of range.
    """

    def __init__(
        self,
        index: CosineIndex,
        threshold: float,
        among: Int[np.ndarray, " items"] | None = None,
        *,
        method: str = "exact",
    ) -> None:
        check_threshold(threshold, "fold")
        self._index, self._among, self._method = index, among, method
        self._least = max(-1.0, threshold - SLACK)
        self._most = len(index) if among is None else len(among)
        self._groups: dict[int, list[int]] = {}  # of each id looked at, all members

    def of(self, ids: Int[np.ndarray, " items"]) -> list[list[int]]:
        """Return the group of each id: its members, itself included, ascending.

        Ids of one group get the same list.
        """
        self._look_up({item for item in ids.tolist() if item not in self._groups})
        return [self._groups[item] for item in ids.tolist()]

    def _look_up(self, wanted: set[int]) -> None:
        """Find the groups of new ids: follow near neighbours until there are no new ones."""
        groups = {item: [item] for item in wanted}
        reached = wanted
        while reached:
            fresh: set[int] = set()
            for item, near in self._near(np.array(sorted(reached))):
                for other in near.tolist():
                    if other not in groups:
                        groups[other] = [other]
                        fresh.add(other)
                    _join(groups, item, other)
            reached = fresh
        for members in {id(group): group for group in groups.values()}.values():
            members.sort()
        self._groups |= groups

    def _near(
        self, ids: Int[np.ndarray, " items"]
    ) -> Iterable[tuple[int, Int[np.ndarray, " near"]]]:
        """Look up all that is near each vector."""
        k = _NEIGHBOURS
        while len(ids):
            k = min(k, self._most)
            vectors = self._index.vectors(ids)
            _, found = self._index.search(
                vectors, k, self._among, min_score=self._least, method=self._method
            )
            more = (found[:, -1] >= 0) & (k < self._most)
            for item, near in zip(ids[~more].tolist(), found[~more], strict=True):
                yield item, near[near >= 0]
            ids, k = ids[more], _MORE * k


def _join(groups: dict[int, list[int]], one: int, other: int) -> None:
    """Make one group of two; the smaller moves."""
    large, small = sorted((groups[one], groups[other]), key=len, reverse=True)
    if large is not small:
        large += small
        for item in small:
            groups[item] = large


class Folded(NamedTuple):
    """Results of which no two are of one group.

    Attributes:
        scores: (Q, k) of the best of each group, best first; -inf where there are fewer groups.
        ids: (Q, k); -1 where there are fewer.
        groups: for each query, the members of each of these groups, ascending.
    """

    scores: Float[np.ndarray, "queries k"]
    ids: Int[np.ndarray, "queries k"]
    groups: list[list[list[int]]]


def fold(search: Callable[[int], Found], k: int, groups: NearGroups, most: int) -> Folded:
    """Find the best of each of the k best groups.

    More and more results are looked up until they hold k groups or there are no more, so that k
    groups are found wherever they exist.

    Args:
        search: Finds the k best results for any k: `(scores, ids)`, best first, -inf and -1 where
            there are fewer. A longer list must begin as a shorter one does.
        k: How many groups, at least 1.
        groups: The groups.
        most: How many results there can be.
    """
    k, wanted = arrays.count("k", k), min(2 * k, max(most, 1))
    while True:
        scores, ids = search(wanted)
        found = [groups.of(line[line >= 0]) for line in ids]
        firsts = [_firsts(line, k) for line in found]
        short = [len(places) < k and row[-1] >= 0 for places, row in zip(firsts, ids, strict=True)]
        if wanted >= most or not any(short):
            break
        wanted = min(2 * wanted, most)
    kept = (np.full((len(ids), k), -np.inf, np.float32), np.full((len(ids), k), -1, np.int64))
    for row, places in enumerate(firsts):
        kept[0][row, : len(places)] = scores[row, places]
        kept[1][row, : len(places)] = ids[row, places]
    return Folded(*kept, [[line[i] for i in at] for line, at in zip(found, firsts, strict=True)])


def _firsts(groups: list[list[int]], k: int) -> list[int]:
    """Return where the first of each of the first k groups stands."""
    places: dict[int, int] = {}
    for place, members in enumerate(groups):
        places.setdefault(members[0], place)
    return sorted(places.values())[:k]
