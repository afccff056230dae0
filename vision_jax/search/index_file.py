"""The file of a cosine index: a checked header, then values, scales, ids and notes.

Layout: 8 bytes of magic, 8 bytes of header length, a JSON header, 32 bytes of SHA-256 over all of
these, then the sections back to back. The header names each section's length and SHA-256, and all
lengths are checked against the size of the file before anything is read, so that no header can ask
for more memory than the file has bytes.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

MAGIC = b"VJXINDEX"
VERSION = 1
LONGEST_HEADER = 1 << 16
DTYPES = {
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
}


class IndexFileError(ValueError):
    """An index file that is truncated, altered, of another version, or none at all."""


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        storage: Names the dtype of `values`.
        values: (N, D).
        scale: (N,) float32; the vectors are `scale[i] * values[i]`.
        ids: (N,) int64.
        notes: A JSON-able object.
    """

    storage: str
    values: np.ndarray
    scale: np.ndarray
    ids: np.ndarray
    notes: dict[str, Any]


def write(path: Path, content: Content) -> None:
    """Write a file, atomically.

    Raises:
        ValueError: if the notes are not JSON-able; nothing is written.
    """
    try:
        notes = json.dumps(content.notes, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be JSON-able: {error}") from error
    parts = {
        "values": np.ascontiguousarray(content.values, DTYPES[content.storage]).tobytes(),
        "scale": np.ascontiguousarray(content.scale, "<f4").tobytes(),
        "ids": np.ascontiguousarray(content.ids, "<i8").tobytes(),
        "notes": notes,
    }
    header = {
        "version": VERSION,
        "storage": content.storage,
        "count": content.values.shape[0],
        "dim": content.values.shape[1],
        "sections": {
            name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
            for name, part in parts.items()
        },
    }
    text = json.dumps(header, sort_keys=True).encode()
    front = MAGIC + len(text).to_bytes(8, "little") + text
    _replace(path, [front, hashlib.sha256(front).digest(), *parts.values()])


def read(path: Path) -> Content:
    """Read what `write` wrote.

    Raises:
        IndexFileError: for a file that is truncated, altered, of another version, or none at all.
    """
    with path.open("rb") as file:
        header, offset = _read_header(file, path)
        rest = os.fstat(file.fileno()).st_size - offset
        lengths = _check_header(header, path, rest)
        parts = {}
        for name, length in lengths.items():
            parts[name] = file.read(length)
            if hashlib.sha256(parts[name]).hexdigest() != header["sections"][name]["sha256"]:
                raise IndexFileError(f"{path}: the {name} are altered (SHA-256 differs)")
    shape = header["count"], header["dim"]
    try:
        notes = json.loads(parts["notes"])
        sound = {"about", "items", "next"} <= notes.keys()
    except (ValueError, AttributeError):
        sound = False
    if not sound:
        raise IndexFileError(f"{path}: the notes are not those of an index")
    return Content(
        header["storage"],
        np.frombuffer(parts["values"], DTYPES[header["storage"]]).reshape(shape),
        np.frombuffer(parts["scale"], "<f4"),
        np.frombuffer(parts["ids"], "<i8"),
        notes,
    )


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
    try:
        header = json.loads(text)
        version = header["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise IndexFileError(f"{path}: the header is not one of an index") from error
    if version != VERSION:
        raise IndexFileError(f"{path}: version {version}, this program reads version {VERSION}")
    return header, 16 + length + 32


def _check_header(header: dict[str, Any], path: Path, rest: int) -> dict[str, int]:
    """Check a header against itself and the bytes that follow; give the section lengths."""
    try:
        count, dim, storage = header["count"], header["dim"], header["storage"]
        names = ("values", "scale", "ids", "notes")
        sections = {name: header["sections"][name] for name in names}
        lengths = {name: part["bytes"] for name, part in sections.items() if part["sha256"]}
    except (KeyError, TypeError) as error:
        raise IndexFileError(f"{path}: the header lacks a field") from error
    numbers = [count, dim, *lengths.values()]
    sound = all(type(number) is int and number >= 0 for number in numbers) and dim > 0
    if not sound or not isinstance(storage, str) or storage not in DTYPES:
        raise IndexFileError(f"{path}: the header is not one of an index")
    size = DTYPES[storage].itemsize
    expected = {"values": size * count * dim, "scale": 4 * count, "ids": 8 * count}
    if any(lengths[name] != length for name, length in expected.items()):
        raise IndexFileError(f"{path}: the header contradicts itself: {count} x {dim}, {lengths}")
    if sum(lengths.values()) != rest:
        raise IndexFileError(
            f"{path}: the header names {sum(lengths.values())} bytes, the file holds {rest}"
        )
    return lengths


def _replace(path: Path, parts: list[bytes]) -> None:
    """Write beside the path, force to disk, then rename: a reader sees the old file or the new."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
