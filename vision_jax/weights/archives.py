"""Read zip archives whose entries may lie about themselves."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from vision_jax.errors import InputError
from vision_jax.weights.limits import Allowance, shown


class Archive:
    """An open zip archive; a context manager.

    Args:
        path: the file.

    Raises:
        InputError: it is damaged, holds a name twice, or claims to unpack to much more than it has.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors("its directory"):
            self._zip = zipfile.ZipFile(path)
        self.names = [entry.filename for entry in self._zip.infolist()]
        if len(set(self.names)) < len(self.names):
            self.close()
            raise InputError(f"{path} is damaged: the archive holds a name twice")
        allowance = Allowance(path, path.stat().st_size)
        try:
            for entry in self._zip.infolist():
                allowance.take(entry.filename, entry.file_size)
        except InputError:
            self.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def read(self, name: str) -> bytes:
        """Return an entry's content.

        Args:
            name: one of `names`.

        Raises:
            InputError: it is damaged, which its checksum reveals, or packed by other means than
                deflate.
        """
        entry = self._zip.getinfo(name)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{self._path}: {shown(name)} is packed in a way not known here")
        with self._errors(shown(name)):
            content = self._zip.read(entry)
        if len(content) != entry.file_size:
            raise InputError(f"{self._path}: {shown(name)} is cut short")
        return content

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,  # encryption and versions to come
            RuntimeError,
            EOFError,
            OSError,
            ValueError,
            KeyError,
            IndexError,
            OverflowError,
        ) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"{self._path} is damaged or cut short: {what} cannot be read: {reason}"
            ) from None
