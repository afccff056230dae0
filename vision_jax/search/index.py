"""A cosine index with user ids: add, remove, search, save and load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vision_jax.search import storage
from vision_jax.search.similarity import normalize, top_k_where

SMALLEST = 1024
QUERY_SIZES = (1, 16, 128)

Matrix = Float[Array | np.ndarray, "rows dim"]
Where = np.ndarray | Sequence[Any]


class CosineIndex:
    """Exact cosine search over vectors that come and go.

    Vectors live on the device, normalised, in float32; ids (int64) and metadata stay on the
    host. Capacity doubles as vectors arrive and removed vectors leave gaps, so that neither
    compiles anything new.

    Args:
        dim: Width of the vectors.
        about: What the index is of, such as the model that made the vectors: any JSON-able
            value, kept as an attribute and in the file.
    """

    def __init__(self, dim: int, *, about: Any = None) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.dim = dim
        self.about = about
        self._rows = jnp.zeros((SMALLEST, dim), jnp.float32)
        self._ids = np.zeros(0, np.int64)  # of every slot in use, removed ones included
        self._live = np.zeros(0, bool)
        self._slots: dict[int, int] = {}
        self._metadata: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, item: int) -> bool:
        return int(item) in self._slots

    @property
    def ids(self) -> Int[np.ndarray, " items"]:
        """The ids present, in the order they were added."""
        return self._ids[self._live]

    def add(
        self,
        vectors: Matrix,
        ids: Int[np.ndarray, " rows"] | Sequence[int] | None = None,
        metadata: Sequence[Any] | None = None,
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
        start, end = len(self._ids), len(self._ids) + len(rows)
        capacity = self._rows.shape[0]
        while capacity < end:
            capacity *= 2
        extended = jnp.pad(self._rows, ((0, capacity - self._rows.shape[0]), (0, 0)))
        self._rows = extended.at[start:end].set(normalize(jnp.asarray(rows)))
        self._ids = np.concatenate([self._ids, new])
        self._live = np.concatenate([self._live, np.ones(len(new), bool)])
        self._slots.update(zip(new.tolist(), range(start, end), strict=True))
        if metadata is not None:
            self._metadata.update(zip(new.tolist(), metadata, strict=True))
        return new

    def remove(self, ids: Int[np.ndarray, " rows"] | Sequence[int]) -> None:
        """Remove vectors and their metadata.

        Raises:
            ValueError: if an id is not present; the index is then unchanged.
        """
        gone = np.asarray(ids, np.int64).reshape(-1).tolist()
        slots = self._find(gone)
        self._live[slots] = False
        for item in gone:
            self._slots.pop(item, None)
            self._metadata.pop(item, None)

    def metadata(self, ids: Int[np.ndarray, "..."] | Sequence[int] | int) -> list[Any]:
        """Look up metadata: one value per id, None where there is none (or the id is -1)."""
        return [self._metadata.get(item) for item in np.ravel(np.asarray(ids)).tolist()]

    def vectors(self, ids: Int[np.ndarray, " rows"] | Sequence[int]) -> Float[np.ndarray, "rows d"]:
        """Look up the normalised vectors of ids.

        Raises:
            ValueError: if an id is not present.
        """
        return np.asarray(self._rows)[self._find(np.ravel(np.asarray(ids)).tolist())]

    def search(
        self, queries: Matrix, k: int, where: Where | None = None
    ) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
        """Find each query's k most similar vectors, exactly.

        Args:
            queries: (Q, D), any scale, neither zero nor NaN nor infinite.
            k: How many, at least 1; it may exceed the size of the index.
            where: Which vectors may be found: a boolean mask in the order of `ids`, (N,) or
                (Q, N); or a list of ids; or a list of Q lists of ids.

        Returns:
            `(scores, ids)`, both (Q, k), float32 and int64: best first, ties by the lower id,
            missing places -inf and -1.

        Raises:
            ValueError: for a wrong width, a query without direction, k below 1, or a filter of
                the wrong shape or with an id that is not present.
        """
        rows = self._check_vectors(queries)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        mask = self._mask(where, len(rows))
        scores = np.full((len(rows), k), -np.inf, np.float32)
        found = np.full((len(rows), k), -1, np.int64)
        size = next((s for s in QUERY_SIZES if s >= len(rows)), QUERY_SIZES[-1])
        for start in range(0, len(rows), size):
            part = slice(start, min(start + size, len(rows)))
            short = size - (part.stop - part.start)
            allowed = mask if len(mask) == 1 else np.pad(mask[part], ((0, short), (0, 0)))
            values, slots = top_k_where(
                jnp.asarray(np.pad(rows[part], ((0, short), (0, 0)))),
                self._rows,
                jnp.asarray(allowed),
                k,
            )
            scores[part] = np.asarray(values)[: size - short]
            places = np.asarray(slots)[: size - short]
            found[part] = np.where(places >= 0, np.append(self._ids, -1)[places], -1)
        order = np.lexsort((found, -scores), axis=1)
        return np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)

    def search_by_id(
        self, ids: Int[np.ndarray, " queries"] | Sequence[int], k: int, where: Where | None = None
    ) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
        """Find the neighbours of vectors already in the index, leaving out each one itself.

        Raises:
            ValueError: as `search`, or if an id is not present.
        """
        given = np.ravel(np.asarray(ids, np.int64))
        scores, found = self.search(self.vectors(given), k + 1, where)
        # Duplicates may push the query itself off the list: then the last place goes.
        itself = found == given[:, None]
        itself[~itself.any(1), -1] = True
        return scores[~itself].reshape(len(given), k), found[~itself].reshape(len(given), k)

    def save(self, path: str | Path) -> None:
        """Write the index to one file, replacing an older one only once it is complete.

        Equal indexes give equal bytes.
        """
        vectors = np.asarray(self._rows)[: len(self._ids)][self._live]
        items = {str(item): value for item, value in self._metadata.items()}
        metadata = {"about": self.about, "items": items}
        storage.write(Path(path), vectors, self.ids, metadata)

    @classmethod
    def load(cls, path: str | Path) -> "CosineIndex":
        """Read an index that `save` wrote.

        Raises:
            storage.IndexFileError: (a ValueError) for a file that is truncated, altered, of
                another version or no index at all.
        """
        vectors, ids, metadata = storage.read(Path(path))
        index = cls(vectors.shape[1], about=metadata["about"])
        if len(ids):
            index.add(vectors, ids)
        index._metadata = {int(item): value for item, value in metadata["items"].items()}
        return index

    def _check_vectors(self, vectors: Matrix) -> np.ndarray:
        rows = np.asarray(vectors, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"the index holds vectors of width {self.dim}, got {rows.shape}")
        bad = np.flatnonzero(~np.isfinite(rows).all(1) | ~rows.any(1))
        if len(bad):
            raise ValueError(f"vectors that are zero, NaN or infinite have no cosine: rows {bad}")
        return rows

    def _check_ids(self, ids: Any, count: int) -> np.ndarray:
        if ids is None:
            start = int(self._ids.max(initial=-1)) + 1
            return np.arange(start, start + count, dtype=np.int64)
        new = np.asarray(ids)
        if new.shape != (count,) or not np.issubdtype(new.dtype, np.integer):
            raise ValueError(f"need {count} integer ids, got {new.dtype} of shape {new.shape}")
        new = new.astype(np.int64)
        values, counts = np.unique(new, return_counts=True)
        present = [item for item in values.tolist() if item in self._slots]
        if (counts > 1).any() or present or (values < 0).any():
            raise ValueError(
                "ids must be distinct, new and not negative: "
                f"repeated {values[counts > 1][:10]}, present {present[:10]}, "
                f"negative {values[values < 0][:10]}"
            )
        return new

    def _find(self, ids: list[int]) -> list[int]:
        missing = [item for item in ids if item not in self._slots]
        if missing:
            raise ValueError(f"ids not in the index: {missing[:10]}")
        return [self._slots[item] for item in ids]

    def _mask(self, where: Where | None, queries: int) -> np.ndarray:
        """Turn a filter into a mask over slots, (1, capacity) or (Q, capacity)."""
        capacity = self._rows.shape[0]
        live = np.zeros((1, capacity), bool)
        live[0, : len(self._live)] = self._live
        if where is None:
            return live
        if isinstance(where, np.ndarray) and where.dtype == bool:
            if where.shape not in ((len(self),), (queries, len(self))):
                raise ValueError(
                    f"a mask must be ({len(self)},) or ({queries}, {len(self)}), got {where.shape}"
                )
            mask = np.zeros((where.size // max(1, len(self)), capacity), bool)
            mask[:, np.flatnonzero(live[0])] = where.reshape(len(mask), -1)
            return mask
        lists = list(where)
        shared = not lists or np.ndim(lists[0]) == 0
        lists = [lists] if shared else lists
        if not shared and len(lists) != queries:
            raise ValueError(f"got {len(lists)} lists of ids for {queries} queries")
        mask = np.zeros((len(lists), capacity), bool)
        for row, allowed in zip(mask, lists, strict=True):
            row[self._find([int(item) for item in allowed])] = True
        return mask
