"""The file of a cosine index: a checked header, then values, scales, ids, notes and a graph.

Layout: 8 bytes of magic, 8 bytes of header length, a JSON header, 32 bytes of SHA-256 over all of
these, then the sections back to back. The header names each section's length and SHA-256, and all
lengths are checked against the size of the file before anything is read, so that no header can ask
for more memory than the file has bytes. Checksums tell damage, not intent: what a section says is
checked as well. Version 2 is version 1 with a graph.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from vision_jax.errors import InputError
from vision_jax.files import reading, replacing
from vision_jax.search.arrays import without_direction
from vision_jax.search.graph import Graph

MAGIC = b"VJXINDEX"
SECTIONS: dict[int, tuple[str, ...]] = {
    1: ("values", "scale", "ids", "notes"),
    2: ("values", "scale", "ids", "notes", "levels", "links"),
}
"""Names of the sections, by the version of the file."""
LONGEST_HEADER = 1 << 16
WIDEST = 1 << 24
DTYPES = {
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
}


class IndexFileError(InputError):
    """An index file that is truncated, altered, of another version, or none at all."""


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        dtype: Type of `values`; the header calls it `storage`.
        values: (N, D), an array or what is read like one.
        scale: (N,) float32; the vectors are `scale[i] * values[i]`.
        ids: (N,) int64.
        notes: A JSON-able object: `about`, `items` (the metadata by id) and `next` (an id).
        graph: Links between the vectors, for method "hnsw"; None without.
    """

    dtype: str
    values: Any
    scale: np.ndarray
    ids: np.ndarray
    notes: dict[str, Any]
    graph: Graph | None = None


def _plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays, such as labels, as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def write(path: Path, content: Content) -> None:
    """Write a file, atomically.

    Raises:
        InputError: If the notes are not JSON-able, or the file cannot be written there; nothing is
            written.
    """
    graph = content.graph
    about = content.notes if graph is None else content.notes | {"graph": graph.notes}
    try:
        notes = json.dumps(about, sort_keys=True, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"about and metadata must be JSON-able: {error}") from error
    parts = {
        "values": np.ascontiguousarray(content.values, DTYPES[content.dtype]).tobytes(),
        "scale": np.ascontiguousarray(content.scale, "<f4").tobytes(),
        "ids": np.ascontiguousarray(content.ids, "<i8").tobytes(),
        "notes": notes,
    }
    if graph is not None:
        parts["levels"] = np.ascontiguousarray(graph.levels, "<i4").tobytes()
        parts["links"] = np.ascontiguousarray(graph.links, "<i4").tobytes()
    header = {
        "version": 1 if graph is None else 2,
        "storage": content.dtype,
        "count": content.values.shape[0],
        "dim": content.values.shape[1],
        "sections": {
            name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
            for name, part in parts.items()
        },
    }
    text = json.dumps(header, sort_keys=True).encode()
    front = MAGIC + len(text).to_bytes(8, "little") + text
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines([front, hashlib.sha256(front).digest(), *parts.values()])


def read(path: Path, *, mapped: bool = False) -> Content:
    """Read what `write` wrote.

    Args:
        path: The file.
        mapped: Leave the values in the file, mapped into memory, once they are checked.

    Raises:
        IndexFileError: If the file is truncated, altered, of another version, or none at all.
        InputError: If there is no such file, or it cannot be read.
    """
    with reading(path, "an index file is needed") as file:
        header, offset = _read_header(file, path)
        rest = os.fstat(file.fileno()).st_size - offset
        lengths = _check_header(header, path, rest)
        parts: dict[str, Any] = {}
        for name, length in lengths.items():
            if mapped and name == "values" and length:
                start = file.tell()
                parts[name] = np.memmap(file, np.uint8, "r", start, length)
                file.seek(start + length)
            else:
                parts[name] = file.read(length)
            if hashlib.sha256(parts[name]).hexdigest() != header["sections"][name]["sha256"]:
                raise IndexFileError(f"{path}: the {name} are altered (SHA-256 differs)")
    notes, graph = _parse(parts["notes"], path, "notes"), None
    if header["version"] > 1:
        arrays = (np.frombuffer(parts[name], "<i4") for name in ("levels", "links"))
        graph = Graph.of(notes.pop("graph", None), *arrays)
        if graph is None:
            raise IndexFileError(f"{path}: the graph is not one that was saved here")
    content = Content(
        header["storage"],
        np.frombuffer(parts["values"], DTYPES[header["storage"]]).reshape(
            header["count"], header["dim"]
        ),
        np.frombuffer(parts["scale"], "<f4"),
        np.frombuffer(parts["ids"], "<i8"),
        notes,
        graph,
    )
    _check_content(content, path)
    return content


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    front = file.read(16)
    if len(front) < 16 or not front.startswith(MAGIC):
        raise IndexFileError(f"{path}: not an index file")
    length = int.from_bytes(front[8:], "little")
    if length > LONGEST_HEADER:
        raise IndexFileError(
            f"{path}: a header of {length} bytes, at most {LONGEST_HEADER} allowed"
        )
    text, digest = file.read(length), file.read(32)
    if len(text) < length or len(digest) < 32:
        raise IndexFileError(f"{path}: truncated in the header")
    if hashlib.sha256(front + text).digest() != digest:
        raise IndexFileError(f"{path}: the header is altered (SHA-256 differs)")
    header = _parse(text, path, "header")
    version = header.get("version")
    if type(version) is not int or version not in SECTIONS:
        known = " and ".join(map(str, SECTIONS))
        raise IndexFileError(f"{path}: version {version}, this program reads versions {known}")
    return header, 16 + length + 32


def _check_header(header: dict[str, Any], path: Path, rest: int) -> dict[str, int]:
    """Check a header against itself and the bytes that follow; return the section lengths."""
    try:
        count, dim, dtype = header["count"], header["dim"], header["storage"]
        names = SECTIONS[header["version"]]
        sections = {name: header["sections"][name] for name in names}
        lengths = {name: part["bytes"] for name, part in sections.items()}
        digests = [part["sha256"] for part in sections.values()]
    except (KeyError, TypeError) as error:
        raise IndexFileError(f"{path}: the header lacks a field") from error
    numbers = [count, dim, *lengths.values()]
    sound = all(type(number) is int and number >= 0 for number in numbers)
    sound = sound and 1 <= dim <= WIDEST and all(isinstance(digest, str) for digest in digests)
    if not sound or not isinstance(dtype, str) or dtype not in DTYPES:
        raise IndexFileError(f"{path}: the header is not one of an index")
    size = DTYPES[dtype].itemsize
    expected = {"values": size * count * dim, "scale": 4 * count, "ids": 8 * count}
    if "levels" in lengths:
        expected |= {"levels": 4 * count, "links": lengths["links"] // 4 * 4}
    if any(lengths[name] != length for name, length in expected.items()):
        raise IndexFileError(f"{path}: the header contradicts itself: {count} x {dim}, {lengths}")
    if sum(lengths.values()) != rest:
        raise IndexFileError(
            f"{path}: the header names {sum(lengths.values())} bytes, the file holds {rest}"
        )
    return lengths


def _parse(text: bytes, path: Path, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IndexFileError(f"{path}: the {what} of the index cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise IndexFileError(f"{path}: the {what} of the index is no JSON object")
    return value


def _check_content(content: Content, path: Path) -> None:
    """Refuse values, ids and notes that no index has, whatever their checksums."""
    notes, ids = content.notes, content.ids
    if not {"about", "items", "next"} <= notes.keys() or not isinstance(notes["items"], dict):
        raise IndexFileError(f"{path}: the notes are not those of an index")
    highest = int(ids.max(initial=-1))
    faults = {
        "an id is negative or repeated": bool((ids < 0).any()) or len(np.unique(ids)) < len(ids),
        "the next id is taken or no id": type(notes["next"]) is not int
        or not highest < notes["next"] < 1 << 63,
        "metadata belong to no vector": not _keys_are_ids(notes["items"], ids),
        "a vector is zero, NaN or infinite": bool(len(without_direction(content.values)))
        or not bool((np.isfinite(content.scale) & (content.scale > 0)).all()),
    }
    for fault, found in faults.items():
        if found:
            raise IndexFileError(f"{path}: {fault}; not an index that was saved here")


def _keys_are_ids(items: dict[str, Any], ids: np.ndarray) -> bool:
    return not items or items.keys() <= set(map(str, ids.tolist()))
