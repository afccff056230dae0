"""Approximate cosine search by an inverted file, trained by k-means on the device."""

import operator
import warnings
from functools import partial
from typing import NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from vision_jax.errors import DataWarning, InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.batching import in_parts, pad_rows
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.exact import Exact
from vision_jax.search.filters import Where, to_mask
from vision_jax.search.min_score import MinScore, at_least, check_min_score
from vision_jax.search.protocol import Found
from vision_jax.search.similarity import cosine_top_k, normalize

PAGE = 32
ROUNDS = 10
PER_LIST = 128  # training vectors per list
CHECKED = 256  # vectors that choose the default number of lists to probe
TARGET = 0.97  # their recall@10: a little above the 0.95 that is promised for others
WORTHWHILE = 0.25  # share of the vectors from which comparing them one list at a time is slower
LARGE = 10_000  # vectors from which a gallery is expected to be searched faster than exactly


def build(rows: DeviceRows, slots: Int[np.ndarray, " items"]) -> "Approximate":
    """Build the method; see `protocol.Build`."""
    return Approximate(rows, slots)


class Approximate:
    """An inverted file, or exact search where vectors without clusters make that faster.

    Args:
        rows: The index's rows.
        slots: (N,) the slots of its vectors, in the order of their ids.

    Attributes:
        lists: The inverted file.
        exact: The exact search that answers instead, unless `nprobe` is given; else None.
    """

    def __init__(self, rows: DeviceRows, slots: Int[np.ndarray, " items"]) -> None:
        self.lists = InvertedFile(rows.vectors(slots))
        share = self.lists.share(self.lists.nprobe)
        self.exact = Exact(rows, slots) if share > WORTHWHILE else None
        if self.exact and len(slots) >= LARGE:
            warnings.warn(
                f"the vectors form few clusters: method 'inverted_file' would compare {share:.0%} "
                f"of them to find {TARGET:.0%} of the nearest, so exact search, which is faster "
                f"then, answers; nprobe, below {self.lists.nprobe}, trades that recall for speed",
                DataWarning,
                stacklevel=2,
            )

    def search(
        self,
        queries: Float[np.ndarray, "queries dim"],
        k: int,
        where: Bool[np.ndarray, "masks items"] | None = None,
        *,
        nprobe: SupportsIndex | None = None,
    ) -> Found:
        """Find about the k nearest vectors of each query; see `protocol.Method`.

        Args:
            queries: See `protocol.Method`.
            k: See `protocol.Method`.
            where: See `protocol.Method`.
            nprobe: See `InvertedFile.search`.
        """
        if self.exact is not None and nprobe is None:
            return self.exact.search(queries, k, where)
        return self.lists.search(queries, k, where, nprobe=nprobe)


class Report(NamedTuple):
    """Recall and its cost: with `nprobe` lists, `share` of the vectors are scored."""

    nprobe: int
    share: float
    recall: float


class InvertedFile:
    """Cosine search that looks at the lists of vectors nearest to a query.

    Spherical k-means divides the vectors into lists (Sivic and Zisserman 2003, "Video Google";
    Jégou et al. 2011). Lists are kept in pages of equal size, so that a search looks at a fixed
    number of pages and compiles once. The vectors stay as they are: `CosineIndex` builds a new file
    after a change.

    Args:
        vectors: (N, D) real numbers, N at least 1; no row may be zero, NaN or infinite.
        nlist: How many lists; about 2√N by default.
        nprobe: How many lists a search looks at unless told otherwise. By default the least power
            of two with which 256 vectors of the gallery find 0.97 of their 10 true neighbours.
        key: Chooses the training sample; the same key gives the same lists.

    Attributes:
        reports: The measurements that chose `nprobe`, fewest lists first.

    Raises:
        InputError: If there are no vectors, one has no direction, or nlist is outside [1, N] or
            nprobe outside [1, nlist].
    """

    def __init__(
        self,
        vectors: ArrayLike,
        *,
        nlist: SupportsIndex | None = None,
        nprobe: SupportsIndex | None = None,
        key: Key[Array, ""] | None = None,
    ) -> None:
        given = arrays.matrix("vectors", vectors)
        count = len(given)
        if not count:
            raise InputError("vectors has 0 rows; at least 1 is needed")
        lists = max(1, min(count, round(2 * count**0.5))) if nlist is None else nlist
        self.nlist = _within("nlist", lists, count)
        rows = normalize(jnp.asarray(arrays.directions("vectors", given, given.shape[1])))
        self.centroids = k_means(jax.random.key(0) if key is None else key, rows, self.nlist)
        self._count = count
        self._lay_out(rows)
        self.reports: list[Report] = []
        self.nprobe = self._choose(rows) if nprobe is None else nprobe
        _within("nprobe", self.nprobe, self.nlist)

    def __len__(self) -> int:
        return self._count

    def search(
        self,
        queries: ArrayLike,
        k: SupportsIndex,
        where: Where | None = None,
        *,
        min_score: MinScore | None = None,
        nprobe: SupportsIndex | None = None,
    ) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
        """Find about the k most similar vectors of each query.

        Args:
            queries: (Q, D) real numbers; no row may be zero, NaN or infinite.
            k: How many, at least 1.
            where: Which vectors may be found: a boolean mask, (N,) or (Q, N); or a list of row
                numbers; or Q lists of them. Lists without any such vector are passed over.
            min_score: Least cosine, in [-1, 1] and compared as float32; what scores less is not
                found.
            nprobe: How many lists to look at, each query's nearest; by default the file's
                `nprobe`. Lists count with their mean size, so that as many vectors are scored for
                every query; more are where these hold fewer than k that may be found.

        Returns:
            `(scores, rows)`, both (Q, k), float32 and int32: cosines, best first, ties by the lower
            row; missing places -inf and -1.

        Raises:
            InputError: If queries have another width or no direction, k is below 1, `where` has
                the wrong shape, min_score is no cosine, or nprobe is outside [1, nlist].
        """
        check_min_score(min_score)
        rows = arrays.directions("queries", queries, self.centroids.shape[1])
        k = arrays.count("k", k)
        probe = _within("nprobe", self.nprobe if nprobe is None else nprobe, self.nlist)
        if not len(rows):
            return np.zeros((0, k), np.float32), np.zeros((0, k), np.int32)
        mask = None if where is None else to_mask(where, len(rows), len(self), self._check_rows)
        shared = None if mask is None or len(mask) > 1 else jnp.asarray(mask)
        fewest, most = self._budget(probe), min(self._pages.owner.shape[0], k)

        def find(part: slice, short: int) -> tuple[Array, Array]:
            asked, allowed = jnp.asarray(pad_rows(rows[part], short)), shared
            if mask is not None and len(mask) > 1:
                allowed = jnp.asarray(pad_rows(mask[part], short))
            found = _search(asked, self.centroids, self._pages, allowed, k, fewest)
            last = np.asarray(found[1])[: len(rows[part]), -1]
            if most > fewest and (last < 0).any():
                # Every page holds a vector that may be found, as far as there are such pages.
                found = _search(asked, self.centroids, self._pages, allowed, k, most)
            return found

        scores, ids = in_parts(find, len(rows))
        return at_least((scores, ids), min_score)

    def recall(
        self,
        queries: ArrayLike,
        truth: ArrayLike,
        *,
        nprobe: SupportsIndex | None = None,
    ) -> Report:
        """Measure the share of true neighbours that a search finds.

        Args:
            queries: (Q, D), as for `search`.
            truth: (Q, k) the rows an exact search found; -1 is not counted.
            nprobe: As for `search`.
        """
        probe = _within("nprobe", self.nprobe if nprobe is None else nprobe, self.nlist)
        known = arrays.integers("truth", truth, 2)
        _, found = self.search(queries, known.shape[1], nprobe=probe)
        hits = (known[:, :, None] == found[:, None, :]).any(2) & (known >= 0)
        return Report(probe, self.share(probe), float(hits.sum() / max(1, (known >= 0).sum())))

    def share(self, nprobe: SupportsIndex) -> float:
        """Return the share of the vectors that a search of so many lists scores."""
        return self._budget(operator.index(nprobe)) / self._pages.owner.shape[0]

    def _check_rows(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        outside = rows[(rows < 0) | (rows >= len(self))]
        if len(outside):
            raise InputError(f"rows are not in [0, {len(self)}): {arrays.first(outside)}")
        return rows

    def _budget(self, nprobe: int) -> int:
        pages = self._pages.owner.shape[0]
        return min(pages, -(-pages * nprobe // self.nlist))

    def _lay_out(self, rows: Array) -> None:
        """Put the rows of each list into its own pages."""
        owner = np.asarray(cosine_top_k(rows, self.centroids, 1, normalized=True)[1])[:, 0]
        order = np.argsort(owner, kind="stable")
        sizes = np.bincount(owner, minlength=self.nlist)
        pages = -(-sizes // PAGE)
        first = np.concatenate([[0], np.cumsum(pages)])
        within = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        slots = np.repeat(first[:-1] * PAGE, sizes) + within
        ids = np.full(first[-1] * PAGE, -1, np.int32)
        ids[slots] = order
        held = jnp.where(jnp.asarray(ids >= 0)[:, None], rows[jnp.asarray(np.maximum(ids, 0))], 0.0)
        self._pages = Pages(
            held.reshape(-1, PAGE, rows.shape[1]),
            jnp.asarray(ids.reshape(-1, PAGE)),
            jnp.asarray(np.repeat(np.arange(self.nlist, dtype=np.int32), pages)),
        )

    def _choose(self, rows: Array) -> int:
        count = rows.shape[0]
        k = min(10, count - 1)
        if not k:
            return 1
        sample = np.linspace(0, count - 1, min(CHECKED, count)).astype(np.int32)
        asked = rows[jnp.asarray(sample)]
        truth = np.asarray(cosine_top_k(asked, rows, k + 1, normalized=True)[1])
        truth = np.where(truth == sample[:, None], -1, truth)  # exclude the self-match
        probe = 1
        while True:
            self.reports.append(self.recall(asked, truth, nprobe=probe))
            if self.reports[-1].recall >= TARGET or probe == self.nlist:
                return probe
            probe = min(2 * probe, self.nlist)


class Pages(NamedTuple):
    """Vectors of lists: `rows` (P, PAGE, D), `ids` (P, PAGE) with -1 for none, `owner` (P,)."""

    rows: Float[Array, "pages page dim"]
    ids: Int[Array, "pages page"]
    owner: Int[Array, " pages"]


@partial(jax.jit, static_argnums=2)
def k_means(
    key: Key[Array, ""], vectors: Float[Array, "items dim"], nlist: int
) -> Float[Array, "lists dim"]:
    """Divide unit vectors by spherical k-means.

    Dhillon and Modha 2001, "Concept decompositions for large sparse text data using clustering".

    Args:
        key: Chooses the sample that is trained on, at most 128 vectors per list, and the start.
        vectors: (N, D) of length 1.
        nlist: How many centroids, at most N.

    Returns:
        (nlist, D) centroids of length 1. A centroid that no vector chose keeps its place.
    """
    count = min(vectors.shape[0], PER_LIST * nlist)
    sample = vectors[jax.random.permutation(key, vectors.shape[0])[:count]]

    def step(_: Array, centroids: Array) -> Array:
        _, nearest = cosine_top_k(sample, centroids, 1, normalized=True)
        total = jax.ops.segment_sum(sample, nearest[:, 0], nlist)
        chosen = jnp.any(total != 0, axis=1, keepdims=True)
        return jnp.where(chosen, normalize(total), centroids)

    return lax.fori_loop(0, ROUNDS, step, sample[:nlist])


@partial(jax.jit, static_argnums=(4, 5))
def _search(
    queries: Array, centroids: Array, pages: Pages, where: Array | None, k: int, budget: int
) -> tuple[Array, Array]:
    """Score the rows of the `budget` pages whose lists are nearest to each query.

    With a filter, (1, N) or (Q, N), pages of which no row may be found come last.
    """
    asked = normalize(queries)
    near = jnp.matmul(asked, centroids.T, precision=lax.Precision.HIGHEST)[:, pages.owner]

    def allowed(mask: Array) -> Array:
        return mask[jnp.maximum(pages.ids, 0)] & (pages.ids >= 0)

    def holding(near: Array, mask: Array) -> Array:
        return jnp.where(jnp.any(allowed(mask), axis=1), near, -jnp.inf)

    each = where is not None and where.shape[0] > 1
    if where is not None:
        near = (
            lax.map(lambda args: holding(*args), (near, where)) if each else holding(near, where[0])
        )
    _, chosen = lax.top_k(near, budget)

    def one(args: tuple[Array, ...]) -> tuple[Array, Array]:
        query, chosen, *masks = args
        rows = pages.rows[chosen].reshape(budget * PAGE, -1)
        ids = pages.ids[chosen].reshape(-1)
        scores = jnp.matmul(rows, query, precision=lax.Precision.HIGHEST)
        sound = ids >= 0
        if where is not None:
            sound &= (masks[0] if each else where[0])[jnp.maximum(ids, 0)]
        scores = jnp.where(sound, scores, -jnp.inf)
        values, places = lax.top_k(scores, min(k, scores.shape[0]))
        # Pages are not in the order of rows: a tie is put right among the best.
        values, found = lax.sort((-values, ids[places]), num_keys=2)
        short = (0, k - values.shape[0])
        return (
            jnp.pad(-values, short, constant_values=-jnp.inf),
            jnp.pad(jnp.where(values < jnp.inf, found, -1), short, constant_values=-1),
        )

    return lax.map(one, (asked, chosen, where) if each else (asked, chosen))


def _within(name: str, value: SupportsIndex, most: int) -> int:
    number = arrays.count(name, value)
    if number > most:
        raise InputError(f"{name} is {number}; it must be in [1, {most}]")
    return number
