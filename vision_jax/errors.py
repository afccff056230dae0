"""Errors and warnings whose message alone the command line prints."""

from typing import ClassVar


class InputError(ValueError):
    """A value that cannot be used; the message names the value and what is needed.

    The command line prints it and exits with code 2.

    >>> import vision_jax
    >>> try:
    ...     vision_jax.load_run("nowhere")
    ... except vision_jax.InputError as error:
    ...     print(error)
    nowhere holds no run: nowhere/config.json does not exist; train one there first
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
