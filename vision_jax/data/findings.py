"""Findings about data: what is odd, for a table or for one warning."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

from vision_jax.errors import DataWarning

_NAMED = 3


class Finding(NamedTuple):
    """Something odd about a file, a folder or an example.

    Attributes:
        path: which one, as text that can be printed.
        what: what is wrong with it.
        error: whether it cannot be used; else it can, or is left out on purpose.
    """

    path: str
    what: str
    error: bool


def warn_of(what: str, findings: Sequence[Finding], data: str | None = None) -> None:
    """Warn on one line, once in a process.

    Args:
        what: what happened to these files.
        findings: the first of them are named.
        data: the argument of `vision-jax check` that lists all, if there is one.
    """
    named = "; ".join(f"{path} {reason}" for path, reason, _ in findings[:_NAMED])
    more = len(findings) - _NAMED
    lists = "" if data is None else f". vision-jax check {data} lists all"
    warn_once(f"{what}: {named}{f'; and {more} more' if more > 0 else ''}{lists}")


def warn_once(message: str, *, key: str | None = None) -> None:
    """Warn with a message that this process has not shown yet.

    Args:
        message: the text.
        key: tells which messages are the same; by default the text.
    """
    if (key := key or message) not in _shown:
        _shown.add(key)
        warnings.warn(DataWarning(message), stacklevel=3)


_shown: set[str] = set()
