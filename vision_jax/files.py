"""Files that are whole or not there, and their checksums."""

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"
"""How the name of a file begins that is still being written."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all.

    Args:
        path: the file to write; an older one stays until the new one is whole.

    Yields:
        A path beside it, of the same suffix, to write to. When the block ends, the file is forced
        to disk and takes the place of `path`; if the block raises, it is removed.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        _force_to_disk(temporary)
        temporary.replace(path)
        _force_to_disk(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(content: Any) -> str:
    """Format content as JSON that every parser reads.

    Args:
        content: dicts, lists, tuples, text and numbers; arrays and NumPy's numbers become lists
            and numbers. JSON has no NaN and no infinity: both become null.

    Returns:
        Indented text with a line break at its end.
    """
    return json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(content: Any) -> Any:
    if hasattr(content, "tolist"):
        content = content.tolist()
    if isinstance(content, dict):
        return {name: _plain(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
