"""The file of a cosine index: a checked header, then vectors, ids and metadata.

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
from typing import Any

import numpy as np

MAGIC = b"VJXINDEX"
VERSION = 1
LONGEST_HEADER = 1 << 16
SECTIONS = ("vectors", "ids", "metadata")


class IndexFileError(ValueError):
    """An index file that is truncated, altered, of another version, or none at all."""


def write(path: Path, vectors: np.ndarray, ids: np.ndarray, metadata: dict[str, Any]) -> None:
    """Write vectors (N, D) float32, ids (N,) int64 and a JSON-able object, atomically."""
    parts = {
        "vectors": np.ascontiguousarray(vectors, "<f4").reshape(-1).view(np.uint8),
        "ids": np.ascontiguousarray(ids, "<i8").view(np.uint8),
        "metadata": np.frombuffer(json.dumps(metadata, sort_keys=True).encode(), np.uint8),
    }
    header = json.dumps(
        {
            "version": VERSION,
            "count": vectors.shape[0],
            "dim": vectors.shape[1],
            "sections": {
                name: {"bytes": part.nbytes, "sha256": hashlib.sha256(part).hexdigest()}
                for name, part in parts.items()
            },
        },
        sort_keys=True,
    ).encode()
    front = MAGIC + len(header).to_bytes(8, "little") + header
    _replace(path, [front, hashlib.sha256(front).digest(), *parts.values()])


def read(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Read what `write` wrote: vectors, ids and metadata.

    Raises:
        IndexFileError: for a file that is truncated, altered, of another version, or none at all.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header, offset = _read_header(file, path)
        sections = _check_header(header, path, size - offset)
        parts = {}
        for name in SECTIONS:
            data = np.fromfile(file, np.uint8, sections[name]["bytes"])
            if hashlib.sha256(data).hexdigest() != sections[name]["sha256"]:
                raise IndexFileError(f"{path}: the {name} are altered (SHA-256 differs)")
            parts[name] = data
    vectors = parts["vectors"].view("<f4").reshape(header["count"], header["dim"])
    try:
        metadata = json.loads(parts["metadata"].tobytes())
    except ValueError as error:
        raise IndexFileError(f"{path}: the metadata are not JSON") from error
    return vectors, parts["ids"].view("<i8"), metadata


def _read_header(file: Any, path: Path) -> tuple[dict[str, Any], int]:
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


def _check_header(header: dict[str, Any], path: Path, rest: int) -> dict[str, dict[str, Any]]:
    try:
        count, dim = header["count"], header["dim"]
        sections = {name: header["sections"][name] for name in SECTIONS}
        lengths = {name: part["bytes"] for name, part in sections.items()}
        numbers = [count, dim, *lengths.values()]
        sound = all(type(number) is int and number >= 0 for number in numbers) and dim > 0
    except (KeyError, TypeError) as error:
        raise IndexFileError(f"{path}: the header lacks a field") from error
    if not sound or lengths["vectors"] != 4 * count * dim or lengths["ids"] != 8 * count:
        raise IndexFileError(f"{path}: the header contradicts itself: {count} x {dim}, {lengths}")
    if sum(lengths.values()) != rest:
        raise IndexFileError(
            f"{path}: the header names {sum(lengths.values())} bytes, the file holds {rest}"
        )
    return sections


def _replace(path: Path, parts: list[Any]) -> None:
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
