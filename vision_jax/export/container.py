"""The file of an export, `.vjx`: a zip archive, nothing in it compressed.

It holds `manifest.json`, `encoder.jaxexport` and, with an index, `vectors.npy`, `ids.npy` and
`metadata.json`. The manifest names the size and SHA-256 of the others.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.errors import InputError
from vision_jax.export.contents import FORMAT, VERSION, Rows
from vision_jax.files import reading

MANIFEST, ENCODER = "manifest.json", "encoder.jaxexport"
VECTORS, IDS, METADATA = "vectors.npy", "ids.npy", "metadata.json"
_LONGEST_MANIFEST = 1 << 26


class ExportFileError(InputError):
    """A file that is no export, or a damaged or newer one."""


def write(path: Path, manifest: dict[str, Any], encoder: bytes, rows: Rows | None) -> None:
    """Write an export.

    Args:
        path: the file.
        manifest: what `contents.describe` returned.
        encoder: what `encoder.serialized` returned.
        rows: the rows of the index, or None.
    """
    # JSON is left in ASCII: UTF-8 has no bytes for half a surrogate pair, which text may hold.
    parts = {ENCODER: encoder}
    if rows is not None:
        parts[VECTORS] = _npy(rows.vectors)
        parts[IDS] = _npy(rows.ids)
        parts[METADATA] = json.dumps(rows.metadata, allow_nan=False).encode()
    files = {
        name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in parts.items()
    }
    text = json.dumps({**manifest, "files": files}, indent=1, allow_nan=False)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, part in {MANIFEST: text.encode(), **parts}.items():
            archive.writestr(zipfile.ZipInfo(name), part)  # of a date that says nothing


def read(path: str | Path) -> tuple[dict[str, Any], bytes, Rows | None]:
    """Read what `write` wrote: the manifest, the encoder, and the rows of the index.

    Raises:
        ExportFileError: the file is no export, or it is truncated, altered or of another version.
        InputError: there is no such file, or it cannot be read.
    """
    with reading(path, "an export that ends in .vjx is needed") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read(archive, path)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, KeyError) as error:
            raise ExportFileError(
                f"{path} is no export, or is truncated or altered ({error}); export the run again"
            ) from error


def _read(archive: zipfile.ZipFile, path: str | Path) -> tuple[dict[str, Any], bytes, Rows | None]:
    manifest = _manifest(archive, path)
    parts = {name: _part(archive, name, told, path) for name, told in manifest["files"].items()}
    described = manifest["index"]
    wanted = {ENCODER} if described is None else {ENCODER, VECTORS, IDS, METADATA}
    if parts.keys() != wanted:
        raise ExportFileError(f"{path} holds {sorted(parts)}; {sorted(wanted)} are needed")
    if described is None:
        return manifest, parts[ENCODER], None
    count, dim = described["count"], described["dim"]
    rows = Rows(
        _array(parts[VECTORS], (count, dim), np.dtype("<f4"), path),
        _array(parts[IDS], (count,), np.dtype("<i8"), path),
        _json(parts[METADATA], path),
    )
    ids = rows.ids
    sound = bool(np.isfinite(rows.vectors).all()) and bool((np.diff(ids) > 0).all())
    sound = sound and bool((ids >= 0).all()) and isinstance(rows.metadata, list)
    if not sound or len(rows.metadata) != count:
        raise ExportFileError(f"{path}: the index is not one that was exported here")
    return manifest, parts[ENCODER], rows


def _manifest(archive: zipfile.ZipFile, path: str | Path) -> dict[str, Any]:
    if MANIFEST not in archive.namelist():
        raise ExportFileError(f"{path} is no export: it holds no {MANIFEST}")
    if archive.getinfo(MANIFEST).file_size > _LONGEST_MANIFEST:
        raise ExportFileError(f"{path}: {MANIFEST} is longer than {_LONGEST_MANIFEST} bytes")
    manifest = _json(archive.read(MANIFEST), path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ExportFileError(f"{path} is no export: its {MANIFEST} does not say {FORMAT!r}")
    if manifest.get("version") != VERSION:
        writer = manifest.get("written_by", {})
        raise ExportFileError(
            f"{path} is an export of version {manifest.get('version')}, by {writer}; this program "
            f"reads version {VERSION}: install the one that wrote it, or a later one"
        )
    if not _is_sound(manifest):
        raise ExportFileError(f"{path}: {MANIFEST} lacks a field")
    return manifest


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether a manifest holds all that a reader takes from it, of the right types."""
    image, encoder, index = (manifest.get(name) for name in ("image", "encoder", "index"))
    if not (isinstance(image, dict) and isinstance(encoder, dict)):
        return False
    numbers = [image.get(name) for name in ("height", "width", "channels")]
    numbers.append(encoder.get("dim"))
    if isinstance(index, dict):
        numbers += [index.get(name) for name in ("count", "dim", "views")]
    elif index is not None:
        return False
    files = manifest.get("files")
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and {"crop", "interpolation", "fit"} <= image.keys()
        and isinstance(encoder.get("identity"), str)
        and isinstance(manifest.get("classes", 0), list | None)
        and isinstance(files, dict)
        and all(isinstance(told, dict) for told in files.values())
    )


def _part(archive: zipfile.ZipFile, name: str, told: dict[str, Any], path: str | Path) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != told.get("bytes"):
        raise ExportFileError(f"{path}: {name} has another size than {MANIFEST} says")
    data = archive.read(name)
    if hashlib.sha256(data).hexdigest() != told.get("sha256"):
        raise ExportFileError(f"{path}: {name} is altered (SHA-256 differs)")
    return data


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def _array(
    data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], path: str | Path
) -> np.ndarray:
    """Read an array whose shape is known; the header is not what decides how much is allocated."""
    file = io.BytesIO(data)
    try:
        np.lib.format.read_magic(file)
        found = np.lib.format.read_array_header_1_0(file)
    except ValueError as error:
        raise ExportFileError(f"{path}: an array of the index cannot be read: {error}") from error
    start, size = file.tell(), int(np.prod(shape)) * dtype.itemsize
    if found != (shape, False, dtype) or len(data) != start + size:
        raise ExportFileError(f"{path}: an array of the index has not the shape {shape}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _json(data: bytes, path: str | Path) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ExportFileError(f"{path}: its text cannot be read: {error}") from error
