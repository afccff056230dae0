"""The graph of HNSW as plain arrays, as an index file holds it."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

HIGHEST = 8  # levels that FAISS draws for 16 connections; 10^9 vectors have as many
_NUMBERS = ("connections", "entry", "ef")
_SHARES = ("target", "recall", "share")


class Fit(NamedTuple):
    """What was measured with vectors of the gallery as queries.

    Attributes:
        ef: The least length of the search's list of candidates that reaches `target`.
        recall: With it, the share found of the 10 true neighbours.
        share: With it, the share of the vectors that a search compares.
        target: The recall that was asked for.
    """

    ef: int
    recall: float
    share: float
    target: float


class Graph(NamedTuple):
    """Links between vectors (Malkov and Yashunin 2020, "Efficient and robust ANN search … HNSW").

    Attributes:
        connections: M; a vector has 2M links on level 0, and M on every level above.
        levels: (N,) int32 how many levels each vector is on, at least 1.
        links: The links of each vector in turn, level by level: int32 rows, -1 where there is none.
        entry: The row at which searches start: one on the highest level.
        fit: What was measured.
    """

    connections: int
    levels: Int[np.ndarray, " items"]
    links: Int[np.ndarray, " links"]
    entry: int
    fit: Fit

    @property
    def offsets(self) -> Int[np.ndarray, " ends"]:
        """Where the links of each row begin, and of the last one end; (N + 1,) int64."""
        sizes = (self.levels.astype(np.int64) + 1) * self.connections
        return np.concatenate([[0], np.cumsum(sizes)])

    @property
    def notes(self) -> dict[str, Any]:
        """All but the arrays, JSON-able."""
        return {"connections": self.connections, "entry": self.entry, **self.fit._asdict()}

    @classmethod
    def of(cls, notes: Any, levels: np.ndarray, links: np.ndarray) -> "Graph | None":
        """Make a graph of its notes and arrays; None if they are not those of a sound one.

        A search follows links without looking at them, so each must lead to a vector that there is,
        and that is on the level of the link.
        """
        if not isinstance(notes, dict) or {*_NUMBERS, *_SHARES} - notes.keys():
            return None
        numbers = [notes[name] for name in _NUMBERS]
        shares = [notes[name] for name in _SHARES]
        if not all(type(number) is int and 0 <= number < 1 << 31 for number in numbers):
            return None
        if not all(isinstance(share, float | int) and 0 <= share <= 1 for share in shares):
            return None
        fit = Fit(notes["ef"], notes["recall"], notes["share"], notes["target"])
        graph = cls(notes["connections"], levels, links, notes["entry"], fit)
        return graph if graph.connections and fit.ef and graph._is_sound() else None

    def _is_sound(self) -> bool:
        count, most = len(self.levels), int(self.levels.max(initial=0))
        if self.entry >= count or self.levels.min(initial=1) < 1 or most > HIGHEST:
            return False
        starts = self.offsets
        if starts[-1] != len(self.links) or self.levels[self.entry] != most:
            return False
        if self.links.min(initial=0) < -1 or self.links.max(initial=0) >= count:
            return False
        within = np.arange(len(self.links)) - np.repeat(starts[:-1], np.diff(starts))
        level = np.maximum(within // self.connections - 1, 0)  # level 0 has two parts
        return bool(((self.links < 0) | (self.levels[self.links] > level)).all())
