"""Silence for Pillow while it reads, in any number of threads."""

import contextlib
import ctypes
import ctypes.util
import threading
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import PIL

_LOCK = threading.Lock()
_FILTERS = contextlib.ExitStack()  # what undoes the filter, while it is set
_readers = 0


@contextlib.contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Ignore Pillow's warnings of odd metadata and sizes, which this package judges itself.

    Python's warning filters are shared by all threads: the first reader sets the filter and the
    last one takes it away. Were each to restore what it had found, one of several that leave at
    once would leave its filter behind, or take away another's.
    """
    global _readers
    _quiet_libtiff()
    with _LOCK:
        if _readers == 0:
            _FILTERS.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _readers += 1
    try:
        yield
    finally:
        with _LOCK:
            _readers -= 1
            if _readers == 0:
                _FILTERS.close()


@cache
def _quiet_libtiff() -> None:
    """Take from libtiff the handlers that print what Pillow raises as well."""
    bundled = sorted(Path(PIL.__file__).parent.parent.glob("pillow.libs/libtiff*"))
    name = str(bundled[0]) if bundled else ctypes.util.find_library("tiff")
    with contextlib.suppress(OSError, AttributeError):  # none there: nothing prints
        if name is not None:
            library = ctypes.CDLL(name)
            for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
                setter.argtypes = [ctypes.c_void_p]
                setter(None)
