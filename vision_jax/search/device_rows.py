"""The device side of an index: rows that grow in place, and their search."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from vision_jax.search import kernel
from vision_jax.search.kernel import Coarse, Rows
from vision_jax.search.similarity import normalize

STORAGES = ("float32", "bfloat16", "int8")

SMALLEST = 1024  # a capacity is a multiple of this
APPEND_SIZES = (65_536, 1024)  # rows are written in parts of these sizes, each compiled once
QUERY_SIZES = {512: 385, 128: 49, 16: 2, 1: 1}  # of a part, and how many are left for one at least
MASKED = 128  # a part's queries where each has its own mask, which are large
FIRST_ROUNDING = "int8"  # of the first pass
LESS_ROUNDING = {"int8": "bfloat16", "bfloat16": None}  # for neighbours closer than it can tell
ENOUGH_ASKED = 64  # queries, before one is judged


class Held(NamedTuple):
    """Rows as stored, and a rounded copy for the first pass; None where they are rounded enough."""

    rows: Rows
    coarse: Coarse | None


class Store:
    """Unit vectors on the device, in slots numbered from 0.

    Args:
        dim: Width of the vectors.
        storage: The dtype of the stored values.
    """

    def __init__(self, dim: int, storage: str) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if storage not in STORAGES:
            raise ValueError(f"storage must be one of {STORAGES}, got {storage!r}")
        self.dim = dim
        self.storage = storage
        self._used = 0
        self._rounding: str | None = FIRST_ROUNDING
        self._asked = self._unproven = 0  # queries, and those whose answer that did not prove
        rows = Rows(jnp.zeros((0, dim), storage), jnp.zeros((0,), jnp.float32))
        self._held = _coarsen(rows, self._rounding)
        self._live = jnp.zeros((1, 0), bool)

    @property
    def nbytes(self) -> int:
        """Bytes of device memory."""
        return sum(part.nbytes for part in jax.tree.leaves(self._held))

    @property
    def capacity(self) -> int:
        """How many slots there are, filled or not."""
        return self._held.rows.scale.shape[0]

    def append(self, vectors: np.ndarray) -> None:
        """Fill the next slots with (M, D) float32 vectors of any scale but zero."""
        self._reserve(len(vectors))
        for part in _parts(len(vectors)):
            padded, count = _pad(vectors[part])
            self._put(_encode(padded, self.storage, self._rounding), count)

    def append_rows(self, values: np.ndarray, scale: np.ndarray) -> None:
        """Fill the next slots with rows as `rows` gave them."""
        self._reserve(len(values))
        for part in _parts(len(values)):
            (padded, count), (scales, _) = _pad(values[part]), _pad(scale[part])
            rows = Rows(jnp.asarray(padded), jnp.asarray(scales))
            self._put(_coarsen(rows, self._rounding), count)

    def rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give values and scales of slots, as stored."""
        values, scale = self._held.rows
        return np.asarray(values)[slots], np.asarray(scale)[slots]

    def vectors(self, slots: np.ndarray) -> np.ndarray:
        """Give the float32 vectors of slots."""
        at = jnp.asarray(slots)
        values, scale = (np.asarray(part[at]) for part in self._held.rows)
        return values.astype(np.float32) * scale[:, None]

    def keep(self, slots: np.ndarray) -> None:
        """Move these slots, ascending, to the front and forget the others."""
        at = jnp.asarray(np.pad(slots, (0, self.capacity - len(slots))))
        self._held = jax.tree.map(lambda part: part[at], self._held)
        self._used = len(slots)

    def set_live(self, live: np.ndarray) -> None:
        """Say which of the filled slots may be found."""
        self._live = jnp.asarray(np.pad(live, (0, self.capacity - len(live)))[None])

    def search(
        self, queries: np.ndarray, k: int, where: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best live slots per query, ties by the lower slot.

        Args:
            queries: (Q, D) float32, any scale but zero.
            k: At least 1.
            where: (1, used) or (Q, used), or None for all live slots.

        Returns:
            `(scores, slots)`, (Q, k); -inf and -1 where there is none.
        """
        rounding = None if kernel.is_dense(self.capacity, k) else self._rounding
        scores, slots, proven = self._search(queries, k, where, rounding)
        redo = np.flatnonzero(~proven)
        if rounding is not None:
            self._judge(rounding, len(queries), len(redo))
        if len(redo):
            again = where if where is None or len(where) == 1 else where[redo]
            if self._rounding != rounding:
                scores[redo], slots[redo] = self.search(queries[redo], k, again)
            else:
                scores[redo], slots[redo], _ = self._search(queries[redo], k, again, None)
        return scores, slots

    def _judge(self, rounding: str, asked: int, unproven: int) -> None:
        """Round less from now on if most answers had to be sought again in float32."""
        self._asked, self._unproven = self._asked + asked, self._unproven + unproven
        if self._asked < ENOUGH_ASKED or 2 * self._unproven <= self._asked:
            return
        self._rounding = LESS_ROUNDING[rounding]
        self._held = _coarsen(self._held.rows, self._rounding)
        self._asked = self._unproven = 0

    def _search(
        self, queries: np.ndarray, k: int, where: np.ndarray | None, rounding: str | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        spare = ((0, 0), (0, self.capacity - self._used))
        shared = self._live
        if where is not None and len(where) == 1:
            shared = jnp.asarray(np.pad(where, spare))

        def find(place: tuple[int, int]) -> list[np.ndarray]:
            start, size = place
            part = slice(start, start + size)
            short = ((0, size - len(queries[part])), (0, 0))
            mask = shared
            if where is not None and len(where) > 1:
                mask = jnp.asarray(np.pad(np.pad(where[part], spare), short))
            asked = jnp.asarray(np.pad(queries[part], short))
            found = _find(asked, self._held, mask, self._used, k, rounding)
            return [np.asarray(part) for part in found]

        largest = max(QUERY_SIZES) if where is None or len(where) == 1 else MASKED
        parts = _query_parts(len(queries), largest)
        if len(parts) == 1:  # threads would only cost their start
            results = [find(parts[0])]
        else:
            # On a CPU one part's choice of rows, which one core does, overlaps the other's product.
            with ThreadPoolExecutor(2) as pool:
                results = list(pool.map(find, parts))
        columns = [np.concatenate(column) for column in zip(*results, strict=True)]
        scores, slots, proven = (column[: len(queries)] for column in columns)
        return scores, slots, proven

    def _reserve(self, count: int) -> None:
        needed = self._used + count
        if needed <= self.capacity:
            return
        capacity = -(-max(needed, 2 * self.capacity) // SMALLEST) * SMALLEST
        spare = capacity - self.capacity
        grow = jax.jit(lambda part: jnp.pad(part, ((0, spare), *((0, 0),) * (part.ndim - 1))))
        self._held = jax.tree.map(grow, self._held)

    def _put(self, new: Held, count: int) -> None:
        self._held = _write(self._held, new, self._used, count)
        self._used += count


@partial(jax.jit, static_argnums=(1, 2))
def _encode(vectors: Array, storage: str, rounding: str | None) -> Held:
    unit = normalize(vectors)
    if storage == "float32":
        return _coarsen(Rows(unit, jnp.ones(unit.shape[:1], jnp.float32)), rounding)
    values, scale = kernel.round_to(unit, storage).rows
    meant = values.astype(jnp.float32) * scale[:, None]
    length = jnp.sqrt(jnp.sum(meant * meant, axis=1))  # rounding moved it off 1
    return _coarsen(Rows(values, scale / jnp.where(length > 0, length, 1.0)), rounding)


@partial(jax.jit, static_argnums=1)
def _coarsen(rows: Rows, rounding: str | None) -> Held:
    if rounding is None or rows.values.dtype.name in ("int8", rounding):
        return Held(rows, None)
    meant = rows.values.astype(jnp.float32) * rows.scale[:, None]
    return Held(rows, kernel.round_to(meant, rounding))


@partial(jax.jit, donate_argnums=0)
def _write(held: Held, new: Held, start: Array, count: Array) -> Held:
    """Put the first `count` of the new rows into the slots from `start` on."""

    def put(old: Array, new: Array) -> Array:
        size = new.shape[0]
        # A part that would end beyond the capacity begins earlier, over rows it must leave alone.
        begin = jnp.minimum(start, old.shape[0] - size)
        place = jnp.arange(size, dtype=jnp.int32) - (start - begin)
        fresh = ((place >= 0) & (place < count)).reshape(-1, *(1,) * (new.ndim - 1))
        there = lax.dynamic_slice_in_dim(old, begin, size)
        mixed = jnp.where(fresh, jnp.roll(new, start - begin, axis=0), there)
        return lax.dynamic_update_slice_in_dim(old, mixed, begin, 0)

    return jax.tree.map(put, held, new)


@partial(jax.jit, static_argnums=(4, 5))
def _find(
    queries: Array, held: Held, where: Array, used: Array, k: int, rounding: str | None
) -> tuple[Array, Array, Array]:
    asked = normalize(queries)
    if rounding is None:
        scores, slots = kernel.search(asked, held.rows, where, used, k)
        return scores, slots, jnp.ones(queries.shape[:1], bool)
    first = Coarse(held.rows, jnp.float32(0)) if held.coarse is None else held.coarse
    return kernel.search_coarse(asked, held.rows, first, where, used, k, rounding)


def _parts(count: int) -> list[slice]:
    large, small = APPEND_SIZES
    whole = count // large * large
    edges = [*range(0, whole, large), *range(whole, count, small), count]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _pad(rows: np.ndarray) -> tuple[np.ndarray, int]:
    size = min(size for size in APPEND_SIZES if size >= len(rows))
    return np.pad(rows, ((0, size - len(rows)), *((0, 0),) * (rows.ndim - 1))), len(rows)


def _query_parts(count: int, largest: int) -> list[tuple[int, int]]:
    """Cut queries into (start, size), few sizes being compiled and little padded."""
    parts, start = [], 0
    while start < count:
        left = count - start
        sizes = (size for size, least in QUERY_SIZES.items() if left >= least and size <= largest)
        parts.append((start, next(sizes)))
        start += parts[-1][1]
    return parts
