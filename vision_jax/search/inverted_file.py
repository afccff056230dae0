"""Approximate cosine search by an inverted file, trained by k-means on the device."""

import operator
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from vision_jax.errors import DataWarning, InputError
from vision_jax.parallel.devices import AXIS, Devices
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.batching import in_parts, pad_rows
from vision_jax.search.device_rows import DeviceRows, dtype_name, store
from vision_jax.search.exact import Exact
from vision_jax.search.filters import Where, to_mask
from vision_jax.search.kernel import Rows
from vision_jax.search.methods import CHECKED, LARGE, TARGET
from vision_jax.search.min_score import MinScore, at_least, check_min_score
from vision_jax.search.probing import PAGE, Pages, probe
from vision_jax.search.protocol import Found
from vision_jax.search.similarity import cosine_top_k, normalize

ROUNDS = 10
PER_LIST = 128  # training vectors per list
WORTHWHILE = 0.25  # share of the vectors from which comparing them one list at a time is slower


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
        devices = _devices_to_share(jax.local_devices())
        self.lists = InvertedFile(rows.vectors(slots), dtype=rows.dtype, devices=devices)
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
        dtype: Type of the numbers in the lists: "float32", "bfloat16" or "int8". Scores are those
            of the rounded vectors.
        devices: Devices of this process, each of which holds an equal part of every list; a
            divisor of 32. By default one device holds all. The answer does not depend on them.

    Attributes:
        reports: The measurements that chose `nprobe`, fewest lists first.

    Raises:
        InputError: If there are no vectors, one has no direction, nlist is outside [1, N], nprobe
            outside [1, nlist], or there is no such dtype.
    """

    def __init__(
        self,
        vectors: ArrayLike,
        *,
        nlist: SupportsIndex | None = None,
        nprobe: SupportsIndex | None = None,
        key: Key[Array, ""] | None = None,
        dtype: Any = "float32",
        devices: Devices | None = None,
    ) -> None:
        given = arrays.matrix("vectors", vectors)
        count = len(given)
        if not count:
            raise InputError("vectors has 0 rows; at least 1 is needed")
        lists = max(1, min(count, round(2 * count**0.5))) if nlist is None else nlist
        self.nlist = _within("nlist", lists, count)
        stored = dtype_name(dtype)
        if devices is not None and PAGE % devices.count:
            raise InputError(f"devices is {devices.count}; a divisor of {PAGE} is needed")
        rows = normalize(jnp.asarray(arrays.directions("vectors", given, given.shape[1])))
        self.centroids = k_means(jax.random.key(0) if key is None else key, rows, self.nlist)
        self._count = count
        pages = self._lay_out(rows, store(rows, stored))
        self._total = len(pages.owner)
        self._devices = devices
        self._held = (self.centroids, pages) if devices is None else self._spread(pages, devices)
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
        fewest, most = self._budget(probe), min(self._total, k)

        def find(part: slice, short: int) -> tuple[Array, Array]:
            asked, allowed = jnp.asarray(pad_rows(rows[part], short)), shared
            if mask is not None and len(mask) > 1:
                allowed = jnp.asarray(pad_rows(mask[part], short))
            found = self._probe(asked, allowed, k, fewest)
            last = np.asarray(found[1])[: len(rows[part]), -1]
            if most > fewest and (last < 0).any():
                # Every page holds a vector that may be found, as far as there are such pages.
                found = self._probe(asked, allowed, k, most)
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
        return self._budget(operator.index(nprobe)) / self._total

    def _probe(
        self, asked: Array, allowed: Array | None, k: int, budget: int
    ) -> tuple[Array, Array]:
        if self._devices is None:
            return _on_one(asked, *self._held, allowed, k, budget)
        found: tuple[Array, Array] = _over(self._devices, k, budget)((asked, allowed), self._held)
        return found

    def _check_rows(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        outside = rows[(rows < 0) | (rows >= len(self))]
        if len(outside):
            raise InputError(f"rows are not in [0, {len(self)}): {arrays.first(outside)}")
        return rows

    def _budget(self, nprobe: int) -> int:
        return min(self._total, -(-self._total * nprobe // self.nlist))

    def _lay_out(self, rows: Array, stored: Rows) -> Pages:
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
        filled, at = jnp.asarray(ids >= 0), jnp.asarray(np.maximum(ids, 0))
        held = jnp.where(filled[:, None], stored.values[at], jnp.zeros((), stored.values.dtype))
        exact = stored.values.dtype == jnp.float32
        return Pages(
            held.reshape(-1, PAGE, rows.shape[1]),
            None if exact else stored.scale[at].reshape(-1, PAGE),
            jnp.asarray(ids.reshape(-1, PAGE)),
            jnp.asarray(np.repeat(np.arange(self.nlist, dtype=np.int32), pages)),
        )

    def _spread(self, pages: Pages, devices: Devices) -> tuple[Array, Pages]:
        """Place an equal part of every page on each device, and what else there is on all."""

        def part(rows: Array) -> np.ndarray:
            count, page, *rest = rows.shape
            each = np.asarray(rows).reshape(count, devices.count, page // devices.count, *rest)
            return np.moveaxis(each, 1, 0).reshape(-1, *each.shape[2:])

        def whole(rows: Array) -> Any:
            return np.concatenate([np.asarray(rows)] * devices.count)

        rows, scale, ids = jax.tree.map(part, (pages.rows, pages.scale, pages.ids))
        split = Pages(rows, scale, ids, whole(pages.owner))
        spread: tuple[Array, Pages] = devices.shard((whole(self.centroids), split))
        return spread

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


_on_one = jax.jit(probe, static_argnums=(4, 5))


# Kept beyond an index's change: what pmap makes anew it compiles anew.
@lru_cache(maxsize=64)
def _over(devices: Devices, k: int, budget: int) -> Callable[..., Any]:
    def part(shared: tuple[Array, Array | None], held: tuple[Array, Pages]) -> tuple[Array, Array]:
        return probe(shared[0], *held, shared[1], k, budget, AXIS)

    return devices.over_parts(part, 1)


def _devices_to_share(devices: Sequence[jax.Device]) -> Devices | None:
    """Return the devices where they are several accelerators that lists can be split over."""
    if _is_cpu(devices[0]) or len(devices) == 1 or PAGE % len(devices):
        return None
    return Devices(tuple(devices))


def _is_cpu(device: jax.Device) -> bool:
    return bool(device.platform == "cpu")


def _within(name: str, value: SupportsIndex, most: int) -> int:
    number = arrays.count(name, value)
    if number > most:
        raise InputError(f"{name} is {number}; it must be in [1, {most}]")
    return number
