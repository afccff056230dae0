"""Silence for Pillow while it reads, in any number of threads."""

import contextlib
import threading
import warnings
from collections.abc import Iterator

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
