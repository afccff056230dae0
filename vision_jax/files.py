"""Files that are whole or not there, and their checksums."""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vision_jax.errors import InputError

TEMPORARY = ".tmp-"
"""How the name of a file begins that is still being written."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all.

    Args:
        path: the file to write; an older one stays until the new one is whole. A link stays one:
            what it leads to is written.

    Yields:
        A path beside it, of the same suffix, to write to. When the block ends, the file is forced
        to disk and takes the place of `path`; if the block raises, it is removed.

    Raises:
        InputError: `path` is a folder, or its folder is missing or cannot be written to.
    """
    path = Path(path)
    with contextlib.suppress(OSError):  # such as that a name is too long, which `_begin` tells
        path = path.resolve() if path.is_symlink() else path
    temporary = _begin(path)
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


@contextlib.contextmanager
def reading(path: str | Path, needed: str) -> Iterator[BinaryIO]:
    """Open a file to read.

    Args:
        path: the file.
        needed: what the message says is needed, such as `an index file is needed`.

    Yields:
        The open file.

    Raises:
        InputError: there is no such file, it is a folder, a pipe or a device, or it cannot be read.
    """
    check_file(path, needed)
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def check_file(path: str | Path, needed: str) -> None:
    """Refuse a path that leads to no file, without opening it; see `reading`."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        fault = "does not exist"
    except (OSError, ValueError) as error:  # ValueError: the path holds a null byte
        fault = f"cannot be read ({getattr(error, 'strerror', error)})"
    else:
        if stat.S_ISREG(mode):
            return
        fault = "is a folder" if stat.S_ISDIR(mode) else "is no file"
    raise InputError(f"{path} {fault}; {needed}")


def absolute(path: str | Path) -> str:
    """Return the one absolute path of a file, without `..`; links are not followed."""
    return os.path.abspath(path)  # noqa: PTH100 - `Path.resolve` follows them


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


def _begin(path: Path) -> Path:
    """Make the file that `replacing` writes, and return its path."""
    folder = path.parent
    try:
        temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
        if path.is_dir():
            raise InputError(f"{path} is a folder; the name of a file to write is needed")
        temporary.touch(exist_ok=False)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} cannot be written: {folder} is no folder") from None
    except ValueError as error:  # no name, or one with a null byte
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be written: {error}") from None
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    return temporary


# A full disk is no fault of the path.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


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
