"""Approximate cosine search over a graph, HNSW, by FAISS on the CPU."""

import warnings
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float, Int

from vision_jax.bars import tqdm
from vision_jax.errors import DataWarning
from vision_jax.search import arrays
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.exact import Exact
from vision_jax.search.graph import Fit, Graph
from vision_jax.search.methods import CHECKED, LARGE, TARGET, check_recall
from vision_jax.search.protocol import Found

CONNECTIONS = 16
CONSTRUCTION = 100  # candidates while the graph is built
MEASURED = 10  # neighbours whose recall is measured
FEWEST = 1000  # vectors that are worth a graph
WORTHWHILE = 0.03  # share of the vectors from which comparing them link by link is slower
SPARE = 8  # results beyond k, among which rounding may change the order
_ADDED = 10_000  # vectors between two looks at the progress bar
_GATHERED = 1 << 23  # numbers of found vectors that are scored at a time
_GONE = 0.2  # share of removed vectors from which the graph is built anew


def build(
    rows: DeviceRows,
    slots: Int[np.ndarray, " items"],
    *,
    recall: float | None = None,
    former: "Hnsw | Graph | None" = None,
) -> "Hnsw":
    """Build the method, from what there was before a change if that is given; see `Hnsw`."""
    return Hnsw(rows, slots, recall=recall, former=former)


class Hnsw:
    """A graph of the vectors, or exact search where that is faster.

    Results are scored again in float32, so that a score is what exact search would give. Exact
    search answers where a graph would compare too large a share of the vectors: without clusters,
    for a large k, or with a narrow filter. It also answers each query for which the graph finds
    fewer than k of the vectors that may be found.

    Vectors stay at their nodes: new ones are linked in, and removed ones are passed over until they
    are a fifth.

    Args:
        rows: The index's rows.
        slots: (N,) the slots of its vectors, in the order of their ids.
        recall: The share of the 10 nearest of the gallery's own vectors that a search is to find,
            in (0, 1]; by default that of `former`, or 0.97.
        former: The method before a change, which must not be used again; or the graph of a file,
            whose rows are the first slots.

    Raises:
        InputError: `recall` is out of range.
    """

    def __init__(
        self,
        rows: DeviceRows,
        slots: Int[np.ndarray, " items"],
        *,
        recall: float | None = None,
        former: "Hnsw | Graph | None" = None,
    ) -> None:
        check_recall(recall)
        before = None if former is None else former.fit
        target = recall or (before.target if before else TARGET)
        self._rows, self._slots = rows, slots
        self._exact = Exact(rows, slots)
        self._index: Any = None
        self._nodes = np.zeros(0, np.int64)  # slots of the nodes, ascending
        self.fit: Fit | None = None
        if len(slots) < FEWEST:
            return
        self._link(former)
        self._place = np.full(rows.used, -1)  # of each slot
        self._place[slots] = np.arange(len(slots))
        self._place = self._place[self._nodes]  # of each node
        self._live = self._place >= 0
        if isinstance(former, Graph) and self._is_as(former) and recall is None:
            self.fit = former.fit
        else:
            self.fit = self._measure(target)
        if len(slots) >= LARGE and self._candidates(MEASURED, len(slots), None) is None:
            self._warn(self.fit)

    @property
    def is_whole(self) -> bool:
        """Whether no node stands for a vector that was removed."""
        return len(self._nodes) in (0, len(self._slots))

    def renewed(self) -> "Hnsw":
        """Build the method anew, without what was removed."""
        return Hnsw(self._rows, self._slots, recall=self.fit and self.fit.target)

    def graph(self) -> Graph | None:
        """Return the graph, which `is_whole`; None where there are too few vectors for one."""
        if self.fit is None:
            return None
        faiss, links = _faiss(), self._index.hnsw
        return Graph(
            CONNECTIONS,
            faiss.vector_to_array(links.levels),
            faiss.vector_to_array(links.neighbors),
            links.entry_point,
            self.fit,
        )

    def search(
        self,
        queries: Float[np.ndarray, "queries dim"],
        k: int,
        where: Bool[np.ndarray, "masks items"] | None = None,
        *,
        ef: SupportsIndex | None = None,
    ) -> Found:
        """Find about the k nearest vectors of each query; see `protocol.Method`.

        Args:
            queries: See `protocol.Method`.
            k: See `protocol.Method`.
            where: See `protocol.Method`. A search looks at more candidates the fewer may be found.
            ef: How many candidates to keep, at least 1; more find more, slower. By default as many
                as reach the recall asked for, and 2k or more. If it is given, exact search only
                answers what the graph leaves unanswered.
        """
        wanted = None if ef is None else arrays.count("ef", ef)
        if self.fit is None:
            return self._exact.search(queries, k, where)
        unit = queries / np.abs(queries).max(1, keepdims=True)  # whose squares overflow nothing
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        if where is None or len(where) == 1:
            found = self._search(unit, k, None if where is None else where[0], wanted)
        else:
            each = [
                self._search(unit[row : row + 1], k, mask, wanted) for row, mask in enumerate(where)
            ]
            found = tuple(map(np.concatenate, zip(*each, strict=True)))
        scores, places, short = found
        if short.any():
            left = where if where is None or len(where) == 1 else where[short]
            scores[short], places[short] = self._exact.search(queries[short], k, left)
        return scores, places

    def _search(
        self, unit: np.ndarray, k: int, mask: Bool[np.ndarray, " items"] | None, ef: int | None
    ) -> tuple[np.ndarray, ...]:
        """Search the graph for queries of one filter.

        Returns:
            `(scores, places, short)`: whether exact search must answer is the last, (Q,).
        """
        most = len(self._slots) if mask is None else int(np.count_nonzero(mask))
        size = self._candidates(k, most, ef)
        if size is None:
            shape = len(unit), k
            return np.zeros(shape, np.float32), np.zeros(shape, np.int64), np.ones(len(unit), bool)
        scores, places = self._follow(unit, k, mask, size)
        return scores, places, places[:, min(k, most) - 1] < 0

    def _candidates(self, k: int, most: int, ef: int | None) -> int | None:
        """Return how many candidates to keep; None where exact search is faster.

        Of these the share that may be found is what counts as candidates without a filter.
        """
        assert self.fit is not None
        wanted = _usual(self.fit.ef, k) if ef is None else max(ef, k) + SPARE
        size = -(-wanted * len(self._nodes) // max(1, most))
        compared = self.fit.share * size / _usual(self.fit.ef, MEASURED)
        if not most or size > len(self._nodes) or (ef is None and compared > WORTHWHILE):
            return None
        return int(size)

    def _follow(
        self, unit: np.ndarray, k: int, mask: Bool[np.ndarray, " items"] | None, size: int
    ) -> Found:
        """Search the graph, leave out what a filter does, and score again what is left.

        Candidates are the nodes nearest to a query, so those of them that may be found are the
        nearest of these. A filter within the graph would also return nodes that were passed on the
        way, far from the query.
        """
        options = _faiss().SearchParametersHNSW(efSearch=size)
        filtered = mask is not None or not self.is_whole
        fetched = min(max(size if filtered else 0, k + SPARE), len(self._nodes))
        _, nodes = self._index.search(unit, fetched, params=options)
        if filtered:
            allowed = self._live.copy()
            if mask is not None:
                allowed[self._live] = mask[self._place[self._live]]
            nodes = np.where((nodes >= 0) & allowed[nodes], nodes, -1)
            first = np.argsort(nodes < 0, axis=1, kind="stable")[:, : k + SPARE]
            nodes = np.take_along_axis(nodes, first, 1)
        return self._scored(unit, nodes, k)

    def _scored(self, unit: np.ndarray, nodes: Int[np.ndarray, "queries found"], k: int) -> Found:
        """Score what was found; best first, ties by the lower place."""
        step = max(1, _GATHERED // (nodes.shape[1] * unit.shape[1]))
        scores = np.concatenate(
            [
                # One row at a time, not a matrix product: equal vectors score equally.
                np.einsum("qd,qnd->qn", unit[i : i + step], self._vectors[nodes[i : i + step]])
                for i in range(0, len(unit), step)
            ]
        )
        places, missing = self._place[nodes], nodes < 0
        if missing.any():
            scores[missing], places[missing] = -np.inf, -1
        order = np.lexsort((places, -scores), axis=1)[:, :k]
        each = np.arange(len(order))[:, None]
        scores, places = scores[each, order], places[each, order]
        if (short := k - order.shape[1]) > 0:
            scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
            places = np.pad(places, ((0, 0), (0, short)), constant_values=-1)
        return scores, places

    def _link(self, former: "Hnsw | Graph | None") -> None:
        """Take over what graph there is, and link in the vectors that it lacks."""
        faiss = _faiss()
        wanted = np.sort(self._slots)
        if isinstance(former, Hnsw) and former._index is not None:
            kept = np.isin(former._nodes, wanted).sum()
            if len(former._nodes) - kept <= _GONE * len(former._nodes):
                self._index, self._nodes = former._index, former._nodes
        if self._index is None:
            self._index = faiss.IndexHNSWFlat(
                self._rows.dim, CONNECTIONS, faiss.METRIC_INNER_PRODUCT
            )
            self._index.hnsw.efConstruction = CONSTRUCTION
            if isinstance(former, Graph) and former.connections == CONNECTIONS:
                self._restore(former)
        new = np.setdiff1d(wanted, self._nodes, assume_unique=True)
        bar = tqdm(total=len(new), desc="linking", unit="vectors", delay=2, leave=False)
        with bar:
            for start in range(0, len(new), _ADDED):
                part = new[start : start + _ADDED]
                self._index.add(self._rows.vectors(part))
                bar.update(len(part))
        self._nodes = np.concatenate([self._nodes, new])
        flat = faiss.downcast_index(self._index.storage)
        numbers = faiss.rev_swig_ptr(flat.get_xb(), len(self._nodes) * self._rows.dim)
        self._vectors: np.ndarray = numbers.reshape(len(self._nodes), self._rows.dim)

    def _restore(self, graph: Graph) -> None:
        """Set a graph whose rows are the first slots."""
        faiss, links = _faiss(), self._index.hnsw
        self._nodes = np.arange(len(graph.levels))
        self._index.storage.add(self._rows.vectors(self._nodes))
        self._index.ntotal = len(self._nodes)
        faiss.copy_array_to_vector(np.ascontiguousarray(graph.levels, np.int32), links.levels)
        faiss.copy_array_to_vector(graph.offsets.astype(np.uint64), links.offsets)
        faiss.copy_array_to_vector(np.ascontiguousarray(graph.links, np.int32), links.neighbors)
        links.entry_point, links.max_level = graph.entry, int(graph.levels.max()) - 1

    def _measure(self, target: float) -> Fit:
        """Find the least `ef` with which vectors of the gallery find their neighbours."""
        count, statistics = len(self._slots), _faiss().cvar.hnsw_stats
        sample = np.linspace(0, count - 1, min(CHECKED, count)).astype(np.int64)
        asked = self._rows.vectors(self._slots[sample])
        k = MEASURED + 1  # with the vector itself
        truth = self._exact.search(asked, k)[1]
        truth = np.where(truth == sample[:, None], -1, truth)  # exclude the self-match
        ef = 16
        while True:
            statistics.reset()
            _, places = self._follow(asked, k, None, _usual(ef, MEASURED))
            share = min(1.0, statistics.ndis / len(asked) / len(self._nodes))
            hits = (truth[:, :, None] == places[:, None, :]).any(2) & (truth >= 0)
            fit = Fit(ef, float(hits.sum() / (truth >= 0).sum()), share, target)
            if fit.recall >= target or share > WORTHWHILE or ef >= len(self._nodes):
                return fit
            ef *= 2

    def _is_as(self, graph: Graph) -> bool:
        """Whether the graph is that of a file, with nothing added or removed."""
        count = len(graph.levels)
        return graph.connections == CONNECTIONS and count == len(self._nodes) == len(self._slots)

    def _warn(self, fit: Fit) -> None:
        """Say that exact search answers although the gallery is large."""
        warnings.warn(
            f"the vectors form few clusters: method 'hnsw' would compare {fit.share:.0%} of them "
            f"to find {fit.recall:.0%} of the nearest, so exact search, which is faster then, "
            f"answers; ef, below {fit.ef}, trades recall for speed",
            DataWarning,
            stacklevel=2,
        )


def _usual(ef: int, k: int) -> int:
    """Return how many candidates a search for k keeps without a filter."""
    return max(ef, 2 * k) + SPARE


def _faiss() -> Any:
    import faiss  # with the method alone: the extra `ann` brings it

    return faiss
