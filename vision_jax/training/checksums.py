"""Checksums of the files of a checkpoint: it says itself whether it is whole."""

import hashlib
import json
from pathlib import Path

FILE = "manifest.json"

# Written again when the folder gets its final name, after the checksums were taken.
_WRITTEN_LATER = {"_CHECKPOINT_METADATA", "commit_success.txt"}


def write(folder: Path) -> None:
    """Writes the SHA-256 of every file below a folder into its `manifest.json`.

    Args:
        folder: a checkpoint whose files are all written.
    """
    later = {folder / name for name in _WRITTEN_LATER}
    sums = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in later
    }
    (folder / FILE).write_text(json.dumps(sums, indent=1))


def fault(folder: Path) -> str | None:
    """Says what is wrong with a checkpoint.

    Args:
        folder: the checkpoint.

    Returns:
        The file and its fault; None if every file is as it was written.
    """
    path = folder / FILE
    if not path.is_file():
        return f"{path} is missing: the folder was not written to its end"
    try:
        sums = json.loads(path.read_bytes())
        files = {folder / name: str(expected) for name, expected in sums.items()}
    except (ValueError, AttributeError):
        return f"{path} is damaged"
    for file, expected in files.items():
        if not file.is_file():
            return f"{file} is missing"
        if _sha256(file) != expected:
            return f"{file} is damaged: its SHA-256 is not that of {FILE}"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
