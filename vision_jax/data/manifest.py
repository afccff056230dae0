"""Keep the checksums of a prepared data set's files, and check them when it is opened."""

import hashlib
import json
from pathlib import Path
from typing import Any

from vision_jax.errors import InputError
from vision_jax.files import sha256_of, write_text

FILE = "checksums.json"
_RECORDS = ".array_record"
_NEEDED = ("dataset_info.json", "features.json")


def write_manifest(folder: Path) -> None:
    """Write the size or the SHA-256 of every file of a prepared set.

    Args:
        folder: the data set's version folder. Records carry checksums of their own, so for
            ArrayRecord files the size is enough.
    """
    files = {
        path.name: {"bytes": path.stat().st_size}
        if _RECORDS in path.name
        else {"sha256": sha256_of(path)}
        for path in sorted(folder.iterdir())
        if path.name != FILE
    }
    write_text(folder / FILE, json.dumps({"files": files}, indent=1) + "\n")


def check_files(folder: Any) -> None:
    """Refuse a prepared set with a missing, truncated or changed file.

    A set that another program wrote has no checksums. Its small files are then only checked for
    what they must contain.

    Args:
        folder: the data set's version folder, an `epath.Path`.

    Raises:
        InputError: there is such a file; names the first.
    """
    if (folder / FILE).exists():
        _compare(folder, _read_json(folder, FILE))
    for name in _NEEDED:
        _read_json(folder, name)
    _check_labels(folder, _read_json(folder, "features.json"))


def damaged(path: Any, what: str) -> InputError:
    """Return the error that names a damaged file of a prepared set and what to do about it."""
    return InputError(f"{path} {what}; remove {path.parent} and prepare the data set again")


def _compare(folder: Any, manifest: Any) -> None:
    try:
        rows = {
            name: (row.get("bytes"), row.get("sha256")) for name, row in manifest["files"].items()
        }
    except (TypeError, KeyError, AttributeError):
        raise damaged(folder / FILE, "holds no checksums") from None
    for name, (size, digest) in rows.items():
        path = folder / name
        if not path.exists():
            raise damaged(path, "is missing")
        if size is not None and (found := path.stat().length) != size:
            raise damaged(path, f"has {found} bytes; it was written with {size}")
        if digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise damaged(path, f"has changed since it was written: its SHA-256 is not {FILE}'s")


def _read_json(folder: Any, name: str) -> Any:
    path = folder / name
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise damaged(path, "is missing") from None
    except ValueError as error:
        raise damaged(path, f"is not valid JSON ({error})") from None


def _check_labels(folder: Any, features: Any) -> None:
    """Compare the number of class names with the number of classes."""
    try:
        label = features["featuresDict"]["features"]["label"]
        classes = int(label["classLabel"]["numClasses"])
    except (KeyError, TypeError, ValueError):
        return  # other features, which `open_records` judges
    path = folder / "label.labels.txt"
    if path.exists():
        names = path.read_bytes().decode(errors="replace").split("\n")
        if (count := sum(bool(name.strip()) for name in names)) != classes:
            raise damaged(path, f"names {count} classes; features.json has {classes}")
