"""Exceptions of which the command line prints the message alone."""

from typing import ClassVar


class InputError(ValueError):
    """A value from the user that cannot be used; the message names it and what was needed.

    The command line ends with exit code 2.
    """


class RunError(RuntimeError):
    """A run that cannot go on; the message says what is left of it. Exit code 1.

    Attributes:
        final: whether the same command would end in the same way.
    """

    final: ClassVar[bool] = False


class DataWarning(UserWarning):
    """Files that were left out, or are odd; the command line prints the message alone."""
