"""A folder of small files that never takes more than so many bytes."""

import contextlib
import os
import threading
import time
from pathlib import Path

from vision_jax.errors import InputError
from vision_jax.files import replacing

_SPARED = 0.9  # of the bytes, once files are removed: each time all files are looked at
_FRESH = 60.0  # seconds within which a file is not marked as used again


class DiskCache:
    """Files by name, of which the least recently used go first.

    Several threads and processes may share a folder; each looks at what is there before it removes
    anything. A file's time of change says when it was last used.

    Args:
        folder: where the files are; made if it is not there.
        most: bytes of all files together.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._held: int | None = None  # bytes, as far as known; counted at the first `put`
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cache is {str(folder)!r}, which cannot be made: {error.strerror}"
            ) from None

    def get(self, name: str) -> bytes | None:
        """Return a file's content; None if it is not there."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            if time.time() - path.stat().st_mtime > _FRESH:
                os.utime(path)
        except OSError:
            return None
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep a file, if the disk takes it, and remove older ones that no longer fit."""
        if len(data) > self._most:
            return
        path = self._path(name)
        with contextlib.suppress(OSError, InputError):  # a full disk is no reason to fail
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        with self._lock:
            if self._held is not None:
                self._held += len(data)
            if self._held is None or self._held > self._most:
                self._held = self._trim()

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _trim(self) -> int:
        """Remove the least recently used files where all take too much; return what is left."""
        files = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        held = sum(size for _, size, _ in files)
        if held <= self._most:
            return held
        for _, size, path in sorted(files):
            if held <= _SPARED * self._most:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            held -= size
        return held
