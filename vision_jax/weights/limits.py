"""What no tensor of a file may exceed, whatever the format."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision_jax.errors import InputError

MOST_AXES = 32
FREE_BYTES = 2**30
MOST_GROWTH = 20


class Allowance:
    """The memory that the tensors of a file may take in all.

    A small file can claim terabytes: by compression, by zero strides, by values never written.
    Allowed is 1 GiB, or 20 times the file's size if that is more.

    Args:
        path: the file, for messages.
        size: its bytes.
    """

    def __init__(self, path: str | Path, size: int) -> None:
        self._path = path
        self._left = self._all = max(FREE_BYTES, MOST_GROWTH * size)

    def take(self, name: str, count: int) -> None:
        """Count a tensor's bytes before they are allocated.

        Args:
            name: the tensor or part of the file, for the message.
            count: its bytes.

        Raises:
            InputError: the file claims too much in all.
        """
        self._left -= count
        if self._left < 0:
            raise InputError(
                f"{self._path}: with {shown(name)} ({count:,} bytes) its tensors take more than "
                f"{self._all:,} bytes, which is too much for a file of its size"
            )


def check_sizes(what: str, sizes: Any) -> tuple[int, ...]:
    """Return a shape, strides or offsets as a tuple.

    Args:
        what: what they are, for the message.
        sizes: what the file says.

    Raises:
        InputError: they are no sequence of at most 32 integers of 0 or more.
    """
    if not isinstance(sizes, list | tuple):
        raise InputError(f"{what} is {shown(sizes)}; it must be a list of numbers")
    if not all(type(size) is int and 0 <= size < 2**63 for size in sizes) or len(sizes) > MOST_AXES:
        raise InputError(
            f"{what} is {shown(tuple(sizes))}; it must be at most {MOST_AXES} numbers of 0 or more"
        )
    return tuple(sizes)


def byte_count(shape: Sequence[int], item_size: int) -> int:
    """Return the bytes of a tensor, exact for any shape.

    Args:
        shape: of the tensor.
        item_size: bytes of an element.
    """
    return math.prod(shape) * item_size


def shown(value: Any) -> str:
    """Return a value of a file as a message shows it: on one line and short."""
    if type(value) is tuple and len(value) <= MOST_AXES:
        if not all(isinstance(each, int | str) for each in value):
            return "a tuple of other values"
        text = f"({', '.join(map(shown, value))})"
    elif isinstance(value, int) and value.bit_length() > 128:
        text = "a huge number"
    elif value is None or isinstance(value, str | int | float | bytes):
        text = repr(value[:80] if isinstance(value, str | bytes) else value)
    else:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:76]} ..."
