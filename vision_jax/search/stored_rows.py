"""An index's rows while they are still in their files."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.index_file import Content
from vision_jax.search.joined import Joined, Taken
from vision_jax.search.lock import ReadWriteLock

_PART = 1 << 20  # rows


class Stored(NamedTuple):
    """Rows in files: values (N, D) and scales (N,), as `DeviceRows.rows` returns them."""

    values: np.ndarray | Joined
    scale: np.ndarray


def rows_of(content: Content, *, stored: bool) -> DeviceRows:
    """Make an index's rows of what a file of it holds.

    Args:
        content: What the file holds.
        stored: Leave them there until a device needs them.
    """
    dim = content.values.shape[1]
    if stored:
        return StoredRows(dim, content.dtype, Stored(content.values, content.scale))
    rows = DeviceRows(dim, content.dtype)
    rows.append_rows(content.values, content.scale)
    return rows


class StoredRows(DeviceRows):
    """Rows that stay in their files until something needs them on one device.

    Args:
        dim: Width of the vectors.
        dtype: Type of the stored values.
        stored: The rows.
    """

    def __init__(self, dim: int, dtype: str, stored: Stored) -> None:
        super().__init__(dim, dtype)
        self._stored: Stored | None = stored
        self._placing = ReadWriteLock()
        self._filled = np.ones(len(stored.scale), bool)
        self.used = len(stored.scale)

    def append(self, vectors: np.ndarray) -> None:
        """Fill the next slots; see `DeviceRows.append`."""
        self._place()
        super().append(vectors)

    def append_rows(self, values: np.ndarray, scale: np.ndarray) -> None:
        """Fill the next slots; see `DeviceRows.append_rows`."""
        self._place()
        super().append_rows(values, scale)

    def keep(self, slots: np.ndarray) -> None:
        """Forget other slots; see `DeviceRows.keep`."""
        self._place()
        super().keep(slots)

    def set_live(self, live: np.ndarray) -> None:
        """Say which of the filled slots may be found."""
        self._filled = live
        if self._stored is None:
            super().set_live(live)

    def search(
        self, queries: np.ndarray, k: int, where: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best live slots of each query; see `DeviceRows.search`."""
        self._place()
        return super().search(queries, k, where)

    def rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values and scales of slots, as stored."""
        stored = self._stored
        if stored is None:
            return super().rows(slots)
        return stored.values[slots], stored.scale[slots]

    def vectors(self, slots: np.ndarray) -> np.ndarray:
        """Return the float32 vectors of slots."""
        stored = self._stored
        if stored is None:
            return super().vectors(slots)
        values, scale = stored.values[slots], stored.scale[slots]
        vectors: np.ndarray = values.astype(np.float32) * scale[:, None]
        return vectors

    def readable(self, slots: Int[np.ndarray, " items"]) -> tuple[Any, np.ndarray]:
        """Return values that are read part by part, and scales; see `DeviceRows.readable`."""
        stored = self._stored
        if stored is None:
            return super().readable(slots)
        return Taken(stored.values, slots), stored.scale[slots]

    def _place(self) -> None:
        """Put all rows on the default device."""
        with self._placing.writing():
            stored = self._stored
            if stored is None:
                return
            placed = DeviceRows(self.dim, self.dtype)  # other threads read `used` meanwhile
            placed._reserve(len(stored.scale))
            for start in range(0, len(stored.scale), _PART):
                part = slice(start, start + _PART)
                placed.append_rows(stored.values[part], stored.scale[part])
            self._state = placed._state
            super().set_live(self._filled)
            self._stored = None
