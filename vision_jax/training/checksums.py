"""Checksums of a checkpoint's files, by which it is known to be intact."""

import json
from pathlib import Path

from vision_jax.files import sha256_of, write_text

MANIFEST = "manifest.json"

# orbax rewrites these after the checksums are taken, when the folder gets its final name.
_WRITTEN_LATER = {"_CHECKPOINT_METADATA", "commit_success.txt"}


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of every file below a folder into its `manifest.json`.

    Args:
        folder: a checkpoint whose files are all written.
    """
    later = {folder / name for name in _WRITTEN_LATER}
    sums = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in later
    }
    write_text(folder / MANIFEST, json.dumps(sums, indent=1))


def find_fault(folder: Path) -> str | None:
    """Compare a checkpoint's files with its manifest.

    Args:
        folder: the checkpoint.

    Returns:
        The first missing or damaged file and its fault; None if the checkpoint is intact.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return f"{path} is missing: the checkpoint was not written completely"
    try:
        sums = json.loads(path.read_bytes())
        files = {folder / name: str(expected) for name, expected in sums.items()}
    except (ValueError, AttributeError):
        return f"{path} is damaged"
    for file, expected in files.items():
        if not file.is_file():
            return f"{file} is missing"
        if sha256_of(file) != expected:
            return f"{file} is damaged: its SHA-256 differs from {MANIFEST}"
    return None
