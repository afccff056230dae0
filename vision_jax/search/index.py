"""A cosine index with user ids: add, remove, search, save and load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from vision_jax.search import index_file as storage
from vision_jax.search.device_rows import Store
from vision_jax.search.inverted_file import Approximate, approximate_index

Matrix = Float[Array | np.ndarray, "rows dim"]
Ids = Int[np.ndarray, " rows"] | Sequence[int]
Where = np.ndarray | Sequence[Any]
Found = tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]

SHOWN = 10  # how many offending rows or ids an error lists


class CosineIndex:
    """Exact cosine search over vectors that come and go.

    Vectors live on the device, normalised; ids (int64) and metadata stay on the host. Capacity
    doubles as vectors arrive and removed vectors leave gaps, so that neither compiles anything new.

    Args:
        dim: Width of the vectors.
        storage: What is kept of each number. "float32" (5 bytes, with the int8 copy of the first
            pass; 6 once neighbours prove too close for it and the copy is bfloat16) finds the
            exact neighbours. "bfloat16" (3 bytes) and "int8" (1 byte, one scale per vector) find
            the exact neighbours among the rounded vectors.
        about: What the index is of, such as the model that made the vectors: any JSON-able
            value, kept as an attribute and in the file.
    """

    def __init__(self, dim: int, *, storage: str = "float32", about: Any = None) -> None:
        self.about = about
        self._store = Store(dim, storage)
        self._ids = np.zeros(0, np.int64)  # of every slot in use, removed ones included
        self._live = np.zeros(0, bool)
        self._metadata: dict[int, Any] = {}
        self._next = 0
        self._ascending = True  # then slots are in the order of ids
        self._lookup: tuple[np.ndarray, np.ndarray] | None = None
        self._lists: Approximate | None = None  # until the next change

    def __len__(self) -> int:
        return int(np.count_nonzero(self._live))

    def __contains__(self, item: int) -> bool:
        return bool(self._slots(np.asarray([item], np.int64))[0] >= 0)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._store.dim

    @property
    def ids(self) -> Int[np.ndarray, " items"]:
        """The ids present, in the order they were added."""
        return self._ids[self._live]

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that the vectors take, spare capacity included."""
        return self._store.nbytes

    def add(
        self, vectors: Matrix, ids: Ids | None = None, metadata: Sequence[Any] | None = None
    ) -> Int[np.ndarray, " rows"]:
        """Add vectors.

        Args:
            vectors: (M, D), any scale, neither zero nor NaN nor infinite.
            ids: (M,) distinct non-negative ids, not yet present. By default they continue
                from the highest id ever added, or 0.
            metadata: One JSON-able value per vector.

        Returns:
            The (M,) int64 ids.

        Raises:
            ValueError: for a wrong width, a vector without direction, or an id given twice or
                already present. The index is then unchanged.
        """
        rows = self._check_vectors(vectors)
        new = self._check_ids(ids, len(rows))
        if metadata is not None and len(metadata) != len(rows):
            raise ValueError(f"got {len(metadata)} metadata values for {len(rows)} vectors")
        self._store.append(rows)
        self._register(new)
        if metadata is not None:
            self._metadata.update(zip(new.tolist(), metadata, strict=True))
        return new

    def remove(self, ids: Ids) -> None:
        """Remove vectors and their metadata.

        Raises:
            ValueError: if an id is not present; the index is then unchanged.
        """
        gone = np.ravel(np.asarray(ids, np.int64))
        self._live[self._find(gone)] = False
        for item in gone.tolist():
            self._metadata.pop(item, None)
        if 2 * len(self) < len(self._live):
            kept = np.flatnonzero(self._live)
            self._store.keep(kept)
            self._ids, self._live = self._ids[kept], np.ones(len(kept), bool)
            self._lookup = None
        self._store.set_live(self._live)
        self._lists = None

    def metadata(self, ids: Int[np.ndarray, "..."] | Sequence[int] | int) -> list[Any]:
        """Look up metadata: one value per id, None where there is none (or the id is -1)."""
        return [self._metadata.get(item) for item in np.ravel(np.asarray(ids)).tolist()]

    def vectors(self, ids: Ids) -> Float[np.ndarray, "rows dim"]:
        """Look up the normalised vectors of ids, as they are stored.

        Raises:
            ValueError: if an id is not present.
        """
        return self._store.vectors(self._find(np.ravel(np.asarray(ids, np.int64))))

    def search(
        self, queries: Matrix, k: int, where: Where | None = None, *, approximate: bool = False
    ) -> Found:
        """Find each query's k most similar vectors.

        Args:
            queries: (Q, D), any scale, neither zero nor NaN nor infinite.
            k: How many, at least 1; it may exceed the size of the index.
            where: Which vectors may be found: a boolean mask in the order of `ids`, (N,) or
                (Q, N); or a list of ids; or a list of Q lists of ids.
            approximate: Look only where most neighbours are: at recall@10 of 0.95 and more of the
                gallery's own vectors. An inverted file (on TPU, `lax.approx_max_k`) is trained at
                the first such search after a change.

        Returns:
            `(scores, ids)`, both (Q, k), float32 and int64: best first, ties by the lower id,
            missing places -inf and -1.

        Raises:
            ValueError: for a wrong width, a query without direction, k below 1, an empty index, or
                a filter of the wrong shape or with an id that is not present, or a filter for an
                approximate search.
        """
        rows = self._check_vectors(queries)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not len(self):
            raise ValueError("the index is empty; add vectors before searching")
        if approximate:
            return self._search_approximate(rows, k, where)
        mask = None if where is None else self._mask(where, len(rows))
        # Where slots are not in the order of ids, a tie across the k-th place must be seen whole.
        wanted = k if self._ascending else k + 1
        while True:
            scores, slots = self._store.search(rows, wanted, mask)
            tied = (scores[:, k - 1] == scores[:, -1]) & (slots[:, -1] >= 0)
            if self._ascending or not tied.any() or wanted >= len(self):
                break
            wanted = min(2 * wanted, len(self))
        found = np.where(slots >= 0, self._ids[slots], -1)
        if not self._ascending:
            order = np.lexsort((found, -scores), axis=1)
            scores, found = (np.take_along_axis(part, order, 1) for part in (scores, found))
        return scores[:, :k], found[:, :k]

    def _search_approximate(self, rows: np.ndarray, k: int, where: Where | None) -> Found:
        if where is not None:
            raise ValueError("an approximate search takes no filter; leave out where")
        if self._lists is None:
            self._lists = approximate_index(self._store.vectors(np.flatnonzero(self._live)))
        scores, places = self._lists.search(rows, k)
        return scores, np.where(places >= 0, self.ids[places], -1)

    def search_by_id(self, ids: Ids, k: int, where: Where | None = None) -> Found:
        """Find the neighbours of vectors already in the index, leaving out each one itself.

        Raises:
            ValueError: as `search`, or if an id is not present.
        """
        given = np.ravel(np.asarray(ids, np.int64))
        scores, found = self.search(self.vectors(given), k + 1, where)
        # A filter or duplicates may keep the query itself off the list: then the last place goes.
        itself = found == given[:, None]
        itself[~itself.any(1), -1] = True
        return scores[~itself].reshape(len(given), k), found[~itself].reshape(len(given), k)

    def save(self, path: str | Path) -> None:
        """Write the index to one file, replacing an older one only once it is complete.

        Equal indexes give equal bytes.

        Raises:
            ValueError: if `about` or a metadata value is not JSON-able; nothing is written.
        """
        values, scale = self._store.rows(np.flatnonzero(self._live))
        items = {str(item): value for item, value in self._metadata.items()}
        notes = {"about": self.about, "items": items, "next": self._next}
        content = storage.Content(self._store.storage, values, scale, self.ids, notes)
        storage.write(Path(path), content)

    @classmethod
    def load(cls, path: str | Path) -> "CosineIndex":
        """Read an index that `save` wrote.

        Raises:
            storage.IndexFileError: (a ValueError) for a file that is truncated, altered, of
                another version or no index at all.
        """
        content = storage.read(Path(path))
        index = cls(content.values.shape[1], storage=content.storage, about=content.notes["about"])
        index._store.append_rows(content.values, content.scale)
        index._register(content.ids)
        index._metadata = {int(item): value for item, value in content.notes["items"].items()}
        index._next = content.notes["next"]
        return index

    def _register(self, new: np.ndarray) -> None:
        """Give ids to the slots that were just filled."""
        if len(new):
            steps = np.diff(np.concatenate([self._ids[-1:], new]))
            self._ascending &= bool((steps > 0).all())
            self._next = max(self._next, int(new.max()) + 1)
        self._ids = np.concatenate([self._ids, new])
        self._live = np.concatenate([self._live, np.ones(len(new), bool)])
        self._lookup = self._lists = None
        self._store.set_live(self._live)

    def _check_vectors(self, vectors: Matrix) -> np.ndarray:
        rows = np.asarray(vectors, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"the index holds vectors of width {self.dim}, got {rows.shape}")
        bad = without_direction(rows)
        if len(bad):
            raise ValueError(
                f"zero, NaN or infinite vectors have no cosine: {len(bad)} rows, "
                f"the first being {bad[:SHOWN].tolist()}"
            )
        return rows

    def _check_ids(self, ids: Ids | None, count: int) -> np.ndarray:
        if ids is None:
            return np.arange(self._next, self._next + count, dtype=np.int64)
        new = np.asarray(ids)
        if new.shape != (count,) or not (count == 0 or np.issubdtype(new.dtype, np.integer)):
            raise ValueError(f"need {count} integer ids, got {new.dtype} of shape {new.shape}")
        new = new.astype(np.int64)
        values, counts = np.unique(new, return_counts=True)
        faults = {
            "repeated": values[counts > 1],
            "already present": values[self._slots(values) >= 0],
            "negative": values[values < 0],
        }
        for fault, which in faults.items():
            if len(which):
                raise ValueError(
                    f"ids must be distinct, new and not negative: {len(which)} {fault}, "
                    f"the first being {which[:SHOWN].tolist()}"
                )
        return new

    def _slots(self, ids: np.ndarray) -> np.ndarray:
        """Find the slot of each id, -1 where it is not present."""
        if self._lookup is None:
            slots = np.flatnonzero(self._live)
            held = self._ids[slots]
            if not self._ascending:
                order = np.argsort(held)
                slots, held = slots[order], held[order]
            self._lookup = held, slots
        held, slots = self._lookup
        if not len(held):
            return np.full(len(ids), -1)
        places = np.minimum(np.searchsorted(held, ids), len(held) - 1)
        found = slots[places]
        return np.where((held[places] == ids) & self._live[found], found, -1)

    def _find(self, ids: np.ndarray) -> np.ndarray:
        slots = self._slots(ids)
        if (slots < 0).any():
            raise ValueError(f"ids not in the index: {ids[slots < 0][:SHOWN].tolist()}")
        return slots

    def _mask(self, where: Where, queries: int) -> np.ndarray:
        """Turn a filter into a mask over slots, (1, slots) or (Q, slots)."""
        count = len(self)
        if isinstance(where, np.ndarray) and where.dtype == bool:
            if where.shape not in ((count,), (queries, count)):
                raise ValueError(
                    f"a mask must be ({count},) or ({queries}, {count}), got {where.shape}"
                )
            mask = np.zeros((where.size // count, len(self._live)), bool)
            mask[:, self._live] = where.reshape(len(mask), count)
            return mask
        lists = list(where)
        if not lists or np.ndim(lists[0]) == 0:
            lists = [lists]
        elif len(lists) != queries:
            raise ValueError(f"got {len(lists)} lists of ids for {queries} queries")
        mask = np.zeros((len(lists), len(self._live)), bool)
        for row, allowed in zip(mask, lists, strict=True):
            row[self._find(np.asarray(allowed, np.int64))] = True
        return mask


def without_direction(rows: np.ndarray, size: int = 16_384) -> np.ndarray:
    """List the rows that are zero or not finite; in blocks, so that temporaries stay in cache."""
    parts = (rows[start : start + size] for start in range(0, len(rows), size))
    sound = [np.isfinite(part).all(1) & part.any(1) for part in parts]
    return np.flatnonzero(~np.concatenate([*sound, np.zeros(0, bool)]))
