"""Write the vectors of an index for other programs: NumPy, Parquet, FAISS."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.errors import InputError
from vision_jax.export.contents import Rows, rows_of
from vision_jax.export.write import check_out
from vision_jax.files import replacing
from vision_jax.search import CosineIndex

_ROWS_AT_ONCE = 4096
_NEIGHBOURS = 32  # links of a vector in FAISS's HNSW
_EFFORT = 200  # candidates among which these are chosen


def write_vectors(index: CosineIndex, path: str | Path, *, hnsw: bool = False) -> None:
    """Write the vectors of an index, brought to length 1: an inner product is the cosine.

    Rows are in the order of their ids. Parquet has the columns `id`, those of the metadata, such as
    `key` and `label`, and `vector`, a fixed-size list of float32. An `.npy` holds the vectors
    (N, D) float32; a FAISS index names vectors by their ids. Beside either stands FILE.jsonl, with
    the `id` and the metadata of each row.

    Args:
        index: the index.
        path: the file; its suffix is its format: .npy, .parquet or .faiss. An older one stays until
            the new one is whole.
        hnsw: write FAISS's approximate `IndexHNSWFlat` and not its exact `IndexFlatIP`.

    Raises:
        InputError: the suffix is another one, the file cannot be written, or `hnsw` is asked of
            another format.

    >>> import pathlib
    >>> import numpy as np
    >>> import vision_jax
    >>> index = vision_jax.CosineIndex(2)
    >>> index.add([[3, 4], [0, 2]], metadata=[{"key": "a"}, {"key": "b"}])
    array([0, 1])
    >>> vision_jax.write_vectors(index, "vectors.npy")
    >>> np.load("vectors.npy")
    array([[0.6, 0.8],
           [0. , 1. ]], dtype=float32)
    >>> pathlib.Path("vectors.npy.jsonl").read_text().splitlines()
    ['{"id": 0, "key": "a"}', '{"id": 1, "key": "b"}']
    """
    check_vectors_out(path, hnsw)
    rows, path = rows_of(index), Path(path)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".parquet":
            _write_parquet(temporary, rows)
            return
        with replacing(rows_path(path)) as notes:
            _write_lines(notes, rows)
            _WRITERS[path.suffix.lower()](temporary, rows, hnsw)


def check_vectors_out(path: str | Path, hnsw: bool = False) -> None:
    """Refuse a file that `write_vectors` cannot write, before work begins.

    Raises:
        InputError: see `write_vectors`.
    """
    check_out(path, SUFFIXES)
    if hnsw and Path(path).suffix.lower() != ".faiss":
        raise InputError(f"hnsw is True and out is {str(path)!r}; its name must end in .faiss")


def rows_path(path: Path) -> Path:
    """Return the file that says what the rows of an `.npy` or `.faiss` are."""
    return path.with_name(f"{path.name}.jsonl")


def _write_npy(path: Path, rows: Rows, hnsw: bool) -> None:
    del hnsw
    with path.open("wb") as file:
        np.save(file, rows.vectors, allow_pickle=False)


def _write_faiss(path: Path, rows: Rows, hnsw: bool) -> None:
    import faiss

    width = rows.vectors.shape[1]
    if hnsw:
        base: Any = faiss.IndexHNSWFlat(width, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        base.hnsw.efConstruction = _EFFORT
    else:
        base = faiss.IndexFlatIP(width)
    named = faiss.IndexIDMap2(base)
    named.add_with_ids(rows.vectors, rows.ids)
    faiss.write_index(named, str(path))


_WRITERS: dict[str, Callable[[Path, Rows, bool], None]] = {
    ".npy": _write_npy,
    ".faiss": _write_faiss,
}
SUFFIXES = (".npy", ".parquet", ".faiss")
"""How a file of vectors may end."""


def _write_lines(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in _records(rows):
            # Escaped: metadata may hold half of a character, which UTF-8 cannot.
            file.write(json.dumps(record, allow_nan=False) + "\n")


def _write_parquet(path: Path, rows: Rows) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    records = _records(rows)
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: _column([record.get(name) for record in records]) for name in names}
    columns["id"] = pa.array(rows.ids)
    width = rows.vectors.shape[1]
    flat = pa.array(rows.vectors.ravel(), pa.float32())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, width)
    table = pa.table({"id": columns.pop("id"), **columns})
    pyarrow.parquet.write_table(table, path, row_group_size=_ROWS_AT_ONCE)


def _column(values: list[Any]) -> Any:
    """Return a column, as JSON text where Parquet has no single type for the values."""
    import pyarrow as pa

    try:
        column = pa.array(values)
        if not _has_empty_struct(column.type):
            return column
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        pass
    return pa.array([None if value is None else json.dumps(value) for value in values])


def _has_empty_struct(kind: Any) -> bool:
    fields = [kind.field(i) for i in range(kind.num_fields)]
    return str(kind) == "struct<>" or any(_has_empty_struct(field.type) for field in fields)


def _records(rows: Rows) -> list[dict[str, Any]]:
    """Return the id and metadata of each row; what names a column of ours gets another name."""
    metadata: list[dict[str, Any]] = [
        row if isinstance(row, dict) else {} if row is None else {"metadata": row}
        for row in rows.metadata
    ]
    taken = {name for fields in metadata for name in fields}
    names: dict[Any, Any] = {}
    for ours in ("id", "vector"):
        free = f"{ours}_"
        while free in taken:
            free += "_"
        names[ours] = free
    return [
        {"id": item} | {names.get(name, name): value for name, value in fields.items()}
        for item, fields in zip(rows.ids.tolist(), metadata, strict=True)
    ]
