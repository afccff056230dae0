"""Errors and warnings whose message alone the command line prints."""

from typing import ClassVar


class InputError(ValueError):
    """A value that cannot be used; the message names the value and what is needed.

    The command line prints it and exits with code 2.
    """


class RunError(RuntimeError):
    """A run that cannot continue; the message names what is left of it.

    The command line prints it and exits with code 1.

    Attributes:
        final: whether rerunning the same command would fail in the same way.
    """

    final: ClassVar[bool] = False


class DataWarning(UserWarning):
    """Unusual, damaged or skipped data; the command line prints the message on one line."""
