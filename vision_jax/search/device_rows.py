"""An index's rows on the device: they grow in place and are searched there."""

import platform
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from vision_jax.errors import InputError
from vision_jax.search import arrays, by_platform, kernel
from vision_jax.search.batching import in_parts, largest_on, pad_rows
from vision_jax.search.kernel import Coarse, Rows
from vision_jax.search.lock import ReadWriteLock
from vision_jax.search.similarity import normalize

DTYPES = ("float32", "bfloat16", "int8")

SMALLEST = 1024  # a capacity is a multiple of this
APPEND_SIZES = (65_536, 1024)  # rows are written in parts of these sizes, each compiled once
MASKED = 128  # most queries at a time where each has its own mask, which is large
FIRST_ROUNDING = "int8"  # of the first pass; float32 rows may have none
LESS_ROUNDING = {"int8": "bfloat16", "bfloat16": None}  # for neighbours closer than it can tell
ENOUGH_ASKED = 64  # queries before a rounding is judged


class Held(NamedTuple):
    """Rows as stored, and a rounded copy for the first pass; None where they are rounded enough."""

    rows: Rows
    coarse: Coarse | None


class State(NamedTuple):
    """Rows, and how the copy for their first pass is rounded.

    Together, so that a search sees both of one moment while another thread replaces them.
    """

    held: Held
    rounding: str | None


class DeviceRows:
    """Unit vectors on the device, in slots numbered from 0.

    Searches may run in many threads at once. Whatever changes rows must have them to itself: it
    writes into their memory.

    Args:
        dim: Width of the vectors, at least 1.
        dtype: Type of the stored values: "float32", "bfloat16" or "int8".

    Attributes:
        dim: Width of the vectors.
        dtype: Type of the stored values.
        used: How many slots are filled.
    """

    def __init__(self, dim: SupportsIndex, dtype: Any) -> None:
        self.dim = arrays.count("dim", dim)
        self.dtype = dtype_name(dtype)
        self.used = 0
        self._asked = self._unproven = 0  # queries, and those whose answer was not proven
        self._judging = ReadWriteLock()
        rounds = self.dtype != "float32" or multiplies_bytes_fast()
        rounding = FIRST_ROUNDING if rounds else None
        self._state = State(_no_rows(self.dim, self.dtype, rounding), rounding)
        self._live = jax.device_put(np.zeros((1, 0), bool))

    @property
    def nbytes(self) -> int:
        """Bytes of device memory."""
        return sum(part.nbytes for part in jax.tree.leaves(self._state.held))

    @property
    def capacity(self) -> int:
        """How many slots there are, filled or not."""
        return self._state.held.rows.scale.shape[0]

    def append(self, vectors: np.ndarray) -> None:
        """Fill the next slots with (M, D) float32 vectors, each with a direction."""
        rounding = self._state.rounding
        self._append(len(vectors), lambda part: _encode(_pad(vectors[part]), self.dtype, rounding))

    def append_rows(self, values: np.ndarray, scale: np.ndarray) -> None:
        """Fill the next slots with rows as `rows` returned them."""

        def encode(part: slice) -> Held:
            put = jax.device_put  # jnp.asarray compiles a program for each shape
            rows = Rows(put(_pad(values[part])), put(_pad(scale[part])))
            return _coarsen(rows, self._state.rounding)

        self._append(len(values), encode)

    def _append(self, count: int, encode: Callable[[slice], Held]) -> None:
        used = self.used
        self._reserve(count)
        try:
            for part in _parts(count):
                new, filled = encode(part), part.stop - part.start
                self._hold(_write(self._state.held, new, self.used, filled))
                self.used += filled
        except BaseException:
            self.used = used  # interrupted: what was written is not counted
            raise

    def rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values and scales of slots, as stored."""
        values, scale = self._state.held.rows
        return np.asarray(values)[slots], np.asarray(scale)[slots]

    def readable(self, slots: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return what `rows` does; the values may be read from a file slice by slice."""
        return self.rows(slots)

    def vectors(self, slots: np.ndarray) -> np.ndarray:
        """Return the float32 vectors of slots."""
        count, few = len(slots), APPEND_SIZES[1]
        size = -(-count // few) * few if count > few else 1 << max(0, count - 1).bit_length()
        # Padded, so that few shapes are compiled; without rows there is none to pad with.
        at = jax.device_put(np.pad(slots, (0, size - count if count else 0)))
        values, scale = (np.asarray(part)[:count] for part in _taken(self._state.held.rows, at))
        return values.astype(np.float32) * scale[:, None]

    def keep(self, slots: np.ndarray) -> None:
        """Move these slots, ascending, to the front and forget the others."""
        at = jnp.asarray(np.pad(slots, (0, self.capacity - len(slots))))
        self._hold(_taken(self._state.held, at))
        self.used = len(slots)

    def set_live(self, live: np.ndarray) -> None:
        """Say which of the filled slots may be found."""
        self._live = jax.device_put(np.pad(live, (0, self.capacity - len(live)))[None])

    def search(
        self, queries: np.ndarray, k: int, where: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best live slots of each query, ties by the lower slot.

        Args:
            queries: (Q, D) float32, each with a direction.
            k: At least 1.
            where: (1, used) or (Q, used), or None for all live slots.

        Returns:
            `(scores, slots)`, (Q, k); -inf and -1 where there is none.
        """
        held, rounding = self._state
        first = None if kernel.is_dense(self.capacity, k) else rounding
        scores, slots, proven = self._search(held, queries, k, where, first)
        redo = np.flatnonzero(~proven)
        if first is not None:
            self._judge(first, len(queries), len(redo))
        if len(redo):
            again = where if where is None or len(where) == 1 else where[redo]
            if self._state.rounding != first:
                scores[redo], slots[redo] = self.search(queries[redo], k, again)
            else:
                scores[redo], slots[redo], _ = self._search(held, queries[redo], k, again, None)
        return scores, slots

    def _judge(self, rounding: str, asked: int, unproven: int) -> None:
        """Round less from now on if most answers had to be sought again in float32."""
        with self._judging.writing():
            if self._state.rounding != rounding:
                return  # another thread has judged it
            self._asked, self._unproven = self._asked + asked, self._unproven + unproven
            if self._asked < ENOUGH_ASKED or 2 * self._unproven <= self._asked:
                return
            less = LESS_ROUNDING[rounding]
            self._state = State(_coarsen(self._state.held.rows, less), less)
            self._asked = self._unproven = 0

    def _search(
        self,
        held: Held,
        queries: np.ndarray,
        k: int,
        where: np.ndarray | None,
        rounding: str | None,
    ) -> list[np.ndarray]:
        spare = ((0, 0), (0, self.capacity - self.used))
        each = where is not None and len(where) > 1
        shared = self._live if where is None or each else jnp.asarray(np.pad(where, spare))

        def find(part: slice, short: int) -> Sequence[Any]:
            mask = shared
            if where is not None and each:
                mask = jnp.asarray(pad_rows(np.pad(where[part], spare), short))
            asked = jax.device_put(pad_rows(queries[part], short))
            return _find(asked, held, mask, self.used, k, rounding)

        # On a CPU one part's choice of rows, which one core does, overlaps the other's product.
        (device,) = held.rows.values.devices()
        largest = MASKED if each else largest_on(device)
        return in_parts(find, len(queries), largest=largest, threads=2)

    def _reserve(self, count: int) -> None:
        needed = self.used + count
        if needed <= self.capacity:
            return
        capacity = -(-max(needed, 2 * self.capacity) // SMALLEST) * SMALLEST
        spare = capacity - self.capacity
        held, self._live = _grow(self._state.held, self._live, spare)
        self._hold(held)

    def _hold(self, held: Held) -> None:
        self._state = State(held, self._state.rounding)


@cache
def multiplies_bytes_fast() -> bool:
    """Say whether a product in int8 is faster than in float32: not on x86 CPUs without VNNI."""
    if jax.default_backend() != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return True
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", ())
    return not {"AVX512_CLX", "AVX512_ICL"}.isdisjoint(found)


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype that vectors are stored in.

    Raises:
        InputError: It is not one of `DTYPES`.
    """
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; one of {', '.join(DTYPES)} is needed")
    return name


@partial(jax.jit, static_argnums=(1, 2))
def _encode(vectors: Array, dtype: str, rounding: str | None) -> Held:
    return _coarsen(store(normalize(vectors), dtype), rounding)


def store(unit: Float[Array, "rows dim"], dtype: str) -> Rows:
    """Round vectors of length 1 as an index of this dtype stores them.

    Args:
        unit: (N, D) of length 1.
        dtype: One of `DTYPES`.

    Returns:
        The values, and scales that give the rounded vectors length 1 again.
    """
    if dtype == "float32":
        return Rows(unit, jnp.ones(unit.shape[:1], jnp.float32))
    values, scale = kernel.round_to(unit, dtype).rows
    meant = values.astype(jnp.float32) * scale[:, None]
    length = jnp.sqrt(jnp.sum(meant * meant, axis=1))  # rounding changed it from 1
    return Rows(values, scale / jnp.where(length > 0, length, 1.0))


@jax.jit
def _taken(parts: Any, at: Array) -> Any:
    return jax.tree.map(lambda part: part[at], parts)


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
        scores, slots = by_platform.search(asked, held.rows, where, used, k)
        return scores, slots, jnp.ones(queries.shape[:1], bool)
    first = Coarse(held.rows, jnp.float32(0)) if held.coarse is None else held.coarse
    return by_platform.search_coarse(asked, held.rows, first, where, used, k, rounding)


@partial(jax.jit, static_argnums=2)
def _grow(held: Held, live: Array, spare: int) -> tuple[Held, Array]:
    """Add empty slots."""

    def grow(part: Array) -> Array:
        return jnp.pad(part, ((0, spare), *((0, 0),) * (part.ndim - 1)))

    return jax.tree.map(grow, held), jnp.pad(live, ((0, 0), (0, spare)))


def _no_rows(dim: int, dtype: str, rounding: str | None) -> Held:
    """Hold no rows; made on the host, since each shape to make on a device is a program."""

    def none(part: Any) -> Array:
        return jax.device_put(np.zeros(part.shape, part.dtype))

    rows = Rows(
        jax.device_put(np.zeros((0, dim), jnp.dtype(dtype))),
        jax.device_put(np.zeros(0, np.float32)),
    )
    return jax.tree.map(none, jax.eval_shape(partial(_coarsen, rounding=rounding), rows))


def _parts(count: int) -> list[slice]:
    large, small = APPEND_SIZES
    whole = count // large * large
    edges = [*range(0, whole, large), *range(whole, count, small), count]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _pad(rows: np.ndarray) -> np.ndarray:
    size = min(size for size in APPEND_SIZES if size >= len(rows))
    return pad_rows(rows, size - len(rows))
