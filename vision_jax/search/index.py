"""A cosine index with ids: add, remove, search, save and load."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from vision_jax.errors import InputError
from vision_jax.search import arrays, index_file
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.built import BuiltMethods, check_options
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.filters import Where, to_mask
from vision_jax.search.graph import Fit, Graph
from vision_jax.search.lock import ReadWriteLock
from vision_jax.search.methods import check_method
from vision_jax.search.min_score import MinScore, at_least, check_min_score
from vision_jax.search.protocol import Found
from vision_jax.search.slots import SlotTable
from vision_jax.search.stored_rows import rows_of

_SHOWN, _FIELDS = 200, 20  # letters and fields that a notebook shows at most


class CosineIndex:
    """Cosine search over vectors that come and go.

    Vectors live on the device, normalised; ids (int64) and metadata stay on the host. Capacity
    doubles as vectors arrive and removed vectors leave gaps, so that neither compiles anything new.

    Any number of threads may use one index. Searches and other reads run at once and are as exact
    as one by one; `add` and `remove` wait for the reads under way and keep new ones waiting. Every
    call sees the index before or after a change, never in between.

    Args:
        dim: Width of the vectors.
        dtype: Type of the stored numbers. "float32" (5 bytes each, with the int8 copy of the first
            pass; 6 once neighbours prove too close for it and the copy is bfloat16; 4 on x86 CPUs
            without AVX-512's VNNI, where int8 would be slower) finds the exact neighbours.
            "bfloat16" (3 bytes) and "int8" (1 byte, and a scale per vector) find the exact
            neighbours among the rounded vectors.
        about: A JSON-able note on what the index holds, such as the model that made the vectors.
            It is an attribute and is saved with the index.

    >>> import numpy as np
    >>> from vision_jax.search import CosineIndex
    >>> index = CosineIndex(2)
    >>> index.add([[1, 0], [0, 1], [3, 3]], metadata=["east", "north", "northeast"])
    array([0, 1, 2])
    >>> scores, ids = index.search([[0, 5]], k=2)
    >>> ids
    array([[1, 2]])
    >>> scores.round(3)
    array([[1.   , 0.707]], dtype=float32)
    >>> index.metadata(ids)
    ['north', 'northeast']
    >>> index.search([[0, 5]], k=2, where=[0, 2])[1]  # among these ids
    array([[2, 0]])
    >>> index.search([[0, 5]], k=2, where=[True, False, False])[1]  # a mask; 1 place stays empty
    array([[ 0, -1]])
    """

    def __init__(self, dim: SupportsIndex, *, dtype: Any = "float32", about: Any = None) -> None:
        self.about = about
        self._rows: DeviceRows = DeviceRows(dim, dtype)
        self._table = SlotTable()
        self._metadata: dict[int, Any] = {}
        self._methods = BuiltMethods()
        self._lock = ReadWriteLock()

    def __len__(self) -> int:
        return len(self._table)

    def _repr_html_(self) -> str:
        """Describe the index in a notebook: how many vectors, of what, and which metadata."""
        first = next(iter(self.metadata(self.ids[:1])), None)
        rows: list[tuple[str, Any]] = [
            ("vectors", f"{len(self):,} of {self.dim} numbers"),
            ("type", f"{self.dtype}, {self.nbytes / 2**20:,.1f} MiB on the device"),
            ("metadata", ", ".join(map(str, first)) if isinstance(first, dict) else first),
        ]
        rows += self.about.items() if isinstance(self.about, dict) else [("about", self.about)]
        cells = (
            (escape(str(text)[:_SHOWN]) for text in row)
            for row in rows[:_FIELDS]
            if row[1] is not None
        )
        lines = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in cells)
        return f"<b>{type(self).__name__}</b><table>{lines}</table>"

    def __getstate__(self) -> dict[str, Any]:
        with self._lock.reading():
            return self.__dict__.copy()

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, int | np.integer) or not 0 <= item < 1 << 63:
            return False
        with self._lock.reading():
            return bool(self._table.locate(np.asarray([item], np.int64))[0] >= 0)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._rows.dim

    @property
    def dtype(self) -> str:
        """Type of the stored numbers."""
        return self._rows.dtype

    @property
    def ids(self) -> Int[np.ndarray, " items"]:
        """The ids present, in the order they were added."""
        with self._lock.reading():
            return self._table.ids

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that the vectors take, spare capacity included."""
        return self._rows.nbytes

    def add(
        self,
        vectors: ArrayLike,
        ids: ArrayLike | None = None,
        metadata: Sequence[Any] | np.ndarray | None = None,
    ) -> Int[np.ndarray, " rows"]:
        """Add vectors.

        Args:
            vectors: (M, D) real numbers of any scale; no row may be zero, NaN or infinite.
            ids: (M,) distinct non-negative integers, not yet present. By default they continue
                from the highest id ever added, starting with 0.
            metadata: One JSON-able value per vector.

        Returns:
            The (M,) int64 ids.

        Raises:
            InputError: If vectors have another width or no direction, or an id is given twice or
                already present. The index is then unchanged.
        """
        rows = arrays.directions("vectors", vectors, self.dim)
        given = None if ids is None else arrays.integers("ids", ids, 1)
        _check_metadata(metadata, len(rows))
        with self._lock.writing():
            start = self._table.next
            new = np.arange(start, start + len(rows)) if given is None else given
            self._table.check_new(new, len(rows))
            self._rows.append(rows)
            self._register(new)
            if metadata is not None:
                self._metadata.update(zip(new.tolist(), metadata, strict=True))
        return new

    def remove(self, ids: ArrayLike | int) -> None:
        """Remove vectors and their metadata.

        Args:
            ids: An id, or (M,) of them.

        Raises:
            InputError: If an id is not present; the index is then unchanged.
        """
        gone = arrays.ids("ids", ids)
        with self._lock.writing():
            self._table.remove(self._table.find(gone))
            for item in gone.tolist():
                self._metadata.pop(item, None)
            if 2 * len(self) < len(self._table.live):
                self._rows.keep(self._table.keep())
                self._methods.moved()
            self._changed()

    def metadata(self, ids: ArrayLike | int) -> list[Any]:
        """Look up metadata.

        Args:
            ids: An id, or an array of them of any shape.

        Returns:
            One value per id, in order; None where there is none, or where the id is -1.
        """
        wanted = arrays.integers("ids", ids)
        with self._lock.reading():
            return [self._metadata.get(item) for item in wanted.ravel().tolist()]

    def set_metadata(self, ids: ArrayLike | int, metadata: Sequence[Any] | np.ndarray) -> None:
        """Replace metadata.

        Args:
            ids: An id, or (M,) of them.
            metadata: One JSON-able value per id.

        Raises:
            InputError: If an id is not present, or there is another number of values.
        """
        wanted = arrays.ids("ids", ids)
        _check_metadata(metadata, len(wanted))
        with self._lock.writing():
            self._table.find(wanted)
            self._metadata.update(zip(wanted.tolist(), metadata, strict=True))

    def vectors(self, ids: ArrayLike | int) -> Float[np.ndarray, "rows dim"]:
        """Look up the normalised vectors of ids, as they are stored.

        Raises:
            InputError: If an id is not present.
        """
        wanted = arrays.ids("ids", ids)
        with self._lock.reading():
            return self._rows.vectors(self._table.find(wanted))

    def build(self, method: str, **options: Any) -> None:
        """Build a search method now instead of at the first search.

        Args:
            method: As for `search`.
            **options: Of how it is built. "hnsw" takes `recall`, in (0, 1] and 0.97 by default: the
                share of the 10 nearest that it is to find of the gallery's own vectors.

        Raises:
            InputError: If there is no such method or option, or it takes a package that is missing.
        """
        with self._lock.reading():
            self._methods.get(method, self._rows, self._table.by_id[1], options)

    @property
    def graph(self) -> Fit | None:
        """What was measured of method "hnsw", if it is built or was saved with the index."""
        with self._lock.reading():
            return self._methods.fit

    def as_type(self, dtype: Any) -> "CosineIndex":
        """Return an index of the same vectors, metadata and graph that holds another type.

        Args:
            dtype: As for the index itself.

        Returns:
            A copy; the index itself if it has the type.

        Raises:
            InputError: If there is no such type.
        """
        other = CosineIndex(self.dim, dtype=dtype, about=self.about)
        if other.dtype == self.dtype:
            return self
        other.add(self.vectors(self.ids), self.ids, self.metadata(self.ids))
        with self._lock.reading():
            other._table.next, graph = self._table.next, self._graph()
        if graph is not None:
            other._methods.restore(graph)
        return other

    def search(
        self,
        queries: ArrayLike,
        k: SupportsIndex,
        where: Where | None = None,
        *,
        min_score: MinScore | None = None,
        method: str = "exact",
        **options: Any,
    ) -> Found:
        """Find each query's k most similar vectors.

        Args:
            queries: (Q, D) real numbers of any scale; no row may be zero, NaN or infinite.
            k: How many neighbours, at least 1; it may exceed the size of the index.
            where: Which vectors may be found: a boolean mask in the order of `ids`, (N,) or
                (Q, N); or a list of ids; or Q lists of ids.
            min_score: Least cosine, in [-1, 1] and compared as float32: what scores less is not
                found, what scores the same is. By default whatever is nearest is found.
            method: How to search. "exact" finds the true neighbours; "sharded" does too, over all
                devices of this machine. "hnsw" follows a graph on the CPU (extra `ann`), and
                "inverted_file" looks only at the lists of vectors nearest to a query; both find
                0.95 or more of the 10 nearest of the gallery's own vectors, and their options `ef`
                and `nprobe` say how far they look. "approximate" is the faster of the two, or
                "exact" below 10,000 vectors. "approx_max_k" is fast on TPU, and exact elsewhere.
                All but "exact" are built at the first such search after a change.
            **options: Options of the method.

        Returns:
            `(scores, ids)`, both (Q, k), float32 and int64: best first, ties by the lower id,
            missing places -inf and -1.

        Raises:
            InputError: If queries have another width or no direction, k is below 1, `where` has
                the wrong shape or an id that is not present, min_score is no cosine, or there is
                no such method or option.
        """
        check_min_score(min_score)
        rows = arrays.directions("queries", queries, self.dim)
        with self._lock.reading():
            found = self._search(rows, arrays.count("k", k), where, method, options)
        return at_least(found, min_score)

    def search_by_id(
        self,
        ids: ArrayLike | int,
        k: SupportsIndex,
        where: Where | None = None,
        *,
        min_score: MinScore | None = None,
        method: str = "exact",
        **options: Any,
    ) -> Found:
        """Find the neighbours of vectors already in the index, leaving out each one itself.

        Args:
            ids: An id, or (Q,) of them.
            k: As for `search`.
            where: As for `search`.
            min_score: As for `search`.
            method: As for `search`.
            **options: As for `search`.

        Raises:
            InputError: As for `search`, or if an id is not present.
        """
        check_min_score(min_score)
        given, count = arrays.ids("ids", ids), arrays.count("k", k)
        with self._lock.reading():
            rows = self._rows.vectors(self._table.find(given))
            scores, found = self._search(rows, count + 1, where, method, options)
        # A filter or duplicates may keep the query itself off the list: then the last place goes.
        itself = found == given[:, None]
        itself[~itself.any(1), -1] = True
        others = scores[~itself].reshape(-1, count), found[~itself].reshape(-1, count)
        return at_least(others, min_score)

    def save(self, path: str | Path) -> None:
        """Write the index to one file, replacing an older one only once it is complete.

        The graph of method "hnsw" is written too, if there is one, and brought up to date first.
        Equal indexes give equal bytes.

        Raises:
            InputError: If `about` or a metadata value is not JSON-able, or the file cannot be
                written there; nothing is written.
        """
        with self._lock.reading():
            content = self._content()._replace(graph=self._graph())
        index_file.write(Path(path), content)

    @classmethod
    def load(cls, path: str | Path, *, method: str = "exact") -> "CosineIndex":
        """Read an index that `save` wrote; for "sharded", vectors stay there until needed.

        Raises:
            InputError: If there is no such file, or it cannot be read.
            index_file.IndexFileError: (an InputError) If it is damaged or no index at all.
        """
        later = method == "sharded"
        return cls.from_content(index_file.read(Path(path), mapped=later), stored=later)

    def to_content(self) -> index_file.Content:
        """Return all that a file of the index holds but a graph, vectors as they are stored."""
        with self._lock.reading():
            return self._content()

    @classmethod
    def from_content(cls, content: index_file.Content, *, stored: bool = False) -> "CosineIndex":
        """Make an index of what `to_content` returned; `stored` leaves vectors where they are."""
        index = cls(content.values.shape[1], dtype=content.dtype, about=content.notes["about"])
        index._rows = rows_of(content, stored=stored)
        index._register(content.ids)
        index._metadata = {int(item): value for item, value in content.notes["items"].items()}
        index._table.next = content.notes["next"]
        if content.graph is not None:
            index._methods.restore(content.graph)
        return index

    def _graph(self) -> Graph | None:
        return self._methods.graph(self._rows, self._table.by_id[1], len(self._table.live))

    def _content(self) -> index_file.Content:
        values, scale = self._rows.rows(self._table.slots)
        items = {str(item): value for item, value in self._metadata.items()}
        notes = {"about": self.about, "items": items, "next": self._table.next}
        return index_file.Content(self.dtype, values, scale, self._table.ids, notes)

    def _register(self, new: np.ndarray) -> None:
        self._table.add(new)
        self._changed()

    def _changed(self) -> None:
        self._methods.changed()
        self._rows.set_live(self._table.live)

    def _search(
        self, rows: np.ndarray, k: int, where: Where | None, method: str, options: dict[str, Any]
    ) -> Found:
        """Search while the lock is held."""
        held = self._table.by_id[0]
        if len(held):
            built = self._methods.get(method, self._rows, self._table.by_id[1])
            if options:
                check_options(method, built.search, options)
        else:  # of which nothing can be built
            check_method(method)
        mask = None
        if where is not None:
            find, order = self._table.places, self._table.order
            mask = to_mask(where, len(rows), len(held), find, order)
        scores = np.full((len(rows), k), -np.inf, np.float32)
        found = np.full((len(rows), k), -1, np.int64)
        if len(rows) and len(held):
            few = min(k, len(held))
            scores[:, :few], places = built.search(rows, few, mask, **options)
            found[:, :few] = np.where(places >= 0, held[places], -1)
        return scores, found


def _check_metadata(metadata: Any, count: int) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, Sequence | np.ndarray) or isinstance(metadata, str | bytes):
        raise InputError(
            f"metadata is {arrays.describe(metadata)}; a list of one value per vector is needed"
        )
    if len(metadata) != count:
        raise InputError(f"metadata has {len(metadata)} values; {count} are needed")
