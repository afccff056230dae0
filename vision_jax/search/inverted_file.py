"""Approximate cosine search: an inverted file trained by k-means on device."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from vision_jax.search.kernel import DENSE_SCORES, by_chunks
from vision_jax.search.similarity import cosine_top_k, normalize

PAGE = 32
ROUNDS = 10
PER_LIST = 128  # training vectors per list
CHECKED = 256  # vectors that find the default number of lists to probe
TARGET = 0.97  # their recall@10: a little above the 0.95 that is promised for others
QUERY_SIZES = (128, 1)


class Report(NamedTuple):
    """Recall against what it costs: with `nprobe` lists, `share` of the vectors are scored."""

    nprobe: int
    share: float
    recall: float


class InvertedFile:
    """Cosine search that looks at the lists of vectors nearest to a query.

    Spherical k-means divides the vectors into lists (Sivic and Zisserman 2003, "Video Google";
    Jégou et al. 2011). Lists are kept in pages of equal size, so that a search looks at a fixed
    number of pages and compiles once.

    Args:
        vectors: (N, D), any scale but zero, N at least 1.
        nlist: How many lists; about 2√N by default.
        nprobe: How many lists a search looks at by default. Unless given, the least power of two
            that finds 0.97 of the 10 true neighbours of 256 vectors of the gallery.
        key: Chooses the training sample; the same key gives the same lists.

    Attributes:
        reports: What was measured to choose `nprobe`, from the fewest lists on.

    Raises:
        ValueError: for no vectors, or nlist outside [1, N], or nprobe outside [1, nlist].
    """

    def __init__(
        self,
        vectors: Float[Array | np.ndarray, "items dim"],
        *,
        nlist: int | None = None,
        nprobe: int | None = None,
        key: Key[Array, ""] | None = None,
    ) -> None:
        count = vectors.shape[0]
        if not count:
            raise ValueError("an inverted file needs at least 1 vector, got 0")
        self.nlist = max(1, min(count, round(2 * count**0.5))) if nlist is None else nlist
        if not 1 <= self.nlist <= count:
            raise ValueError(f"nlist must be in [1, {count}], got {nlist}")
        rows = normalize(jnp.asarray(vectors, jnp.float32))
        self.centroids = k_means(jax.random.key(0) if key is None else key, rows, self.nlist)
        self._lay_out(rows)
        self.reports: list[Report] = []
        self.nprobe = self._choose(rows) if nprobe is None else nprobe
        if not 1 <= self.nprobe <= self.nlist:
            raise ValueError(f"nprobe must be in [1, {self.nlist}], got {nprobe}")

    def search(
        self,
        queries: Float[Array | np.ndarray, "queries dim"],
        k: int,
        *,
        nprobe: int | None = None,
    ) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
        """Find about the k most similar vectors of each query.

        Args:
            queries: (Q, D), any scale but zero.
            k: How many, at least 1.
            nprobe: How many lists to look at, each query's nearest; the default of the class
                otherwise. Lists count with their mean size, so that as many vectors are scored for
                every query.

        Returns:
            `(scores, rows)`, both (Q, k), float32 and int32: cosines, best first, ties by the lower
            row; missing places -inf and -1.

        Raises:
            ValueError: for a wrong width, k below 1, or nprobe outside [1, nlist].
        """
        rows = np.asarray(queries, np.float32)
        width, probe = self.centroids.shape[1], self.nprobe if nprobe is None else nprobe
        if rows.shape[1] != width:
            raise ValueError(f"the lists hold vectors of width {width}, got {rows.shape}")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not 1 <= probe <= self.nlist:
            raise ValueError(f"nprobe must be in [1, {self.nlist}], got {probe}")
        size = QUERY_SIZES[0] if len(rows) > 1 else 1
        parts = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            asked = jnp.asarray(np.pad(part, ((0, size - len(part)), (0, 0))))
            pages = self._budget(probe)
            parts.append(_search(asked, self.centroids, self._pages, k, pages))
        scores = np.concatenate([np.zeros((0, k), np.float32), *(np.asarray(p[0]) for p in parts)])
        found = np.concatenate([np.zeros((0, k), np.int32), *(np.asarray(p[1]) for p in parts)])
        return scores[: len(rows)], found[: len(rows)]

    def recall(
        self,
        queries: Float[Array | np.ndarray, "queries dim"],
        truth: Int[Array | np.ndarray, "queries k"],
        *,
        nprobe: int | None = None,
    ) -> Report:
        """Measure which share of true neighbours a search finds.

        Args:
            queries: (Q, D).
            truth: (Q, k) the rows an exact search found; -1 is not counted.
            nprobe: As for `search`.
        """
        probe = self.nprobe if nprobe is None else nprobe
        known = np.asarray(truth)
        _, found = self.search(queries, known.shape[1], nprobe=probe)
        hits = (known[:, :, None] == found[:, None, :]).any(2) & (known >= 0)
        share = min(1.0, self._budget(probe) / self._pages.owner.shape[0])
        return Report(probe, share, float(hits.sum() / max(1, (known >= 0).sum())))

    def _budget(self, nprobe: int) -> int:
        pages = self._pages.owner.shape[0]
        return min(pages, -(-pages * nprobe // self.nlist))

    def _lay_out(self, rows: Array) -> None:
        """Put the rows of each list into pages of their own."""
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
        truth = np.where(truth == sample[:, None], -1, truth)  # finding itself is no feat
        probe = 1
        while True:
            self.reports.append(self.recall(asked, truth, nprobe=probe))
            if self.reports[-1].recall >= TARGET or probe == self.nlist:
                return probe
            probe = min(2 * probe, self.nlist)


class SelectedApproximately:
    """Cosine search by `lax.approx_max_k` over all vectors, which is fast on TPU.

    Args:
        vectors: (N, D), any scale but zero.
    """

    def __init__(self, vectors: Float[Array | np.ndarray, "items dim"]) -> None:
        self._vectors = jnp.asarray(vectors, jnp.float32)

    def search(
        self, queries: Float[Array | np.ndarray, "queries dim"], k: int
    ) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
        """Find about the k most similar vectors of each query; missing places -inf and -1."""
        count = min(k, self._vectors.shape[0])
        asked = jnp.asarray(queries, jnp.float32)
        scores, found = (np.asarray(x) for x in approximate_top_k(asked, self._vectors, count))
        short = ((0, 0), (0, k - count))
        return (
            np.pad(scores, short, constant_values=-np.inf),
            np.pad(found, short, constant_values=-1),
        )


Approximate = InvertedFile | SelectedApproximately


def approximate_index(vectors: Float[Array | np.ndarray, "items dim"]) -> Approximate:
    """Choose the approximate search that is fast on the device at hand."""
    on_tpu = jax.default_backend() == "tpu"
    return SelectedApproximately(vectors) if on_tpu else InvertedFile(vectors)


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

    Args:
        key: Chooses the sample that is trained on, at most 128 vectors per list, and the start.
        vectors: (N, D) of length 1.
        nlist: How many centroids, at most N.

    Returns:
        (nlist, D) centroids of length 1. A centroid that no vector chose keeps its place.

        Dhillon and Modha 2001, "Concept decompositions for large sparse text data using
        clustering".
    """
    count = min(vectors.shape[0], PER_LIST * nlist)
    sample = vectors[jax.random.permutation(key, vectors.shape[0])[:count]]

    def step(_: Array, centroids: Array) -> Array:
        _, nearest = cosine_top_k(sample, centroids, 1, normalized=True)
        total = jax.ops.segment_sum(sample, nearest[:, 0], nlist)
        chosen = jnp.any(total != 0, axis=1, keepdims=True)
        return jnp.where(chosen, normalize(total), centroids)

    return lax.fori_loop(0, ROUNDS, step, sample[:nlist])


@partial(jax.jit, static_argnums=2)
def approximate_top_k(
    queries: Float[Array, "queries dim"], gallery: Float[Array, "items dim"], k: int
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Find about the k nearest gallery rows by `lax.approx_max_k`, which is fast on TPU only.

    Chern et al. 2022, "TPU-KNN". Elsewhere the selection is exact.

    Args:
        queries: (Q, D), any scale but zero.
        gallery: (N, D), any scale but zero.
        k: At most N, static.
    """
    rows = normalize(gallery)

    def part(queries: Array, _: Array) -> tuple[Array, Array]:
        values, found = lax.approx_max_k(normalize(queries) @ rows.T, k, recall_target=0.95)
        return values, found

    chunk = max(1, DENSE_SCORES // max(1, rows.shape[0]))
    return by_chunks(part, queries, jnp.ones((1, 1), bool), chunk)


@partial(jax.jit, static_argnums=(3, 4))
def _search(
    queries: Array, centroids: Array, pages: Pages, k: int, budget: int
) -> tuple[Array, Array]:
    asked = normalize(queries)
    near = jnp.matmul(asked, centroids.T, precision=lax.Precision.HIGHEST)
    _, chosen = lax.top_k(near[:, pages.owner], budget)

    def one(args: tuple[Array, Array]) -> tuple[Array, Array]:
        query, chosen = args
        rows = pages.rows[chosen].reshape(budget * PAGE, -1)
        ids = pages.ids[chosen].reshape(-1)
        scores = jnp.matmul(rows, query, precision=lax.Precision.HIGHEST)
        scores = jnp.where(ids >= 0, scores, -jnp.inf)
        values, places = lax.top_k(scores, min(k, scores.shape[0]))
        # Pages are not in the order of rows: a tie is put right among the best.
        values, found = lax.sort((-values, ids[places]), num_keys=2)
        short = (0, k - values.shape[0])
        return (
            jnp.pad(-values, short, constant_values=-jnp.inf),
            jnp.pad(jnp.where(values < jnp.inf, found, -1), short, constant_values=-1),
        )

    return lax.map(one, (asked, chosen))
