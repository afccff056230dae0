"""Keep the checksums of a prepared data set's files, and check them when it is opened."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from vision_jax.data.findings import warn_once
from vision_jax.errors import InputError
from vision_jax.files import sha256_of, write_text

FILE = "checksums.json"
_RECORDS = ".array_record"
_FOLDERS = "vision_jax.data.builders.image_folder"
"""The builder of sets whose classes only their files tell."""
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
    names = _check_labels(folder, _read_json(folder, "features.json"))
    module = _read_json(folder, "dataset_info.json").get("moduleName", "")
    if names and module == _FOLDERS and not (folder / FILE).exists():
        warn_once(
            f"{folder} has no {FILE}: version 0.1 wrote none, so changed files go unnoticed. If "
            f"its classes are not {', '.join(names[:10])}{', …' * (len(names) > 10)}, remove it "
            "and prepare the data set again"
        )


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


def _check_labels(folder: Any, features: Any) -> list[str]:
    """Return the names of the classes, which must be text, differ, and be as many as classes."""
    try:
        label = features["featuresDict"]["features"]["label"]
        classes = int(label["classLabel"]["numClasses"])
    except (KeyError, TypeError, ValueError):
        return []  # other features, which `open_records` judges
    path = folder / "label.labels.txt"
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise damaged(path, f"is not UTF-8 ({error})") from None
    names = [name.strip() for name in lines if name.strip()]
    if len(names) != classes:
        raise damaged(path, f"names {len(names)} classes; features.json has {classes}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise damaged(path, f"names {twice[0]!r} twice")
    return names
