"""A pickle machine that builds plain values and calls nothing of Python's.

Pickles are programs. This machine knows the instructions that `torch.save` writes, and hands every
global name it meets to a function that decides what the name means.
"""

import io
import struct
from collections.abc import Callable
from io import BufferedReader, BytesIO
from typing import Any, NamedTuple

from vision_jax.errors import InputError
from vision_jax.weights.limits import shown


class Global(NamedTuple):
    """The name of a class or function, never the thing itself."""

    name: str


class Inert:
    """Something known to be harmless that no tensor needs."""


MOST_BYTES = 32 * 2**20
"""Of a pickle; that of a network of a hundred thousand tensors has fewer."""

Call = Callable[[str, tuple[Any, ...]], Any]


class Reader:
    """A file that never reads past its end.

    Args:
        file: at the place to begin; it can seek.
        size: its bytes.
    """

    def __init__(self, file: BufferedReader | BytesIO, size: int) -> None:
        self._file = file
        self._size = size
        self.at = file.tell()

    def read(self, count: int) -> bytes:
        """Read exactly so many bytes.

        Raises:
            ValueError: fewer are left.
        """
        if count > self._size - self.at:
            raise ValueError(f"{count:,} bytes are to follow and {self._size - self.at:,} do")
        data = self._file.read(count)
        if len(data) != count:
            raise ValueError("the file was cut short meanwhile")
        self.at += count
        return data

    def skip(self, count: int) -> None:
        """Move on by so many bytes.

        Raises:
            ValueError: fewer are left.
        """
        if not 0 <= count <= self._size - self.at:
            raise ValueError(f"{count:,} bytes are to follow and {self._size - self.at:,} do")
        self._file.seek(count, io.SEEK_CUR)
        self.at += count

    def number(self, form: str) -> Any:
        """Read a number of a form of `struct`."""
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def line(self) -> str:
        """Read up to a line break, as names are written; at most 1000 bytes."""
        data = self._file.readline(1000)
        self.at += len(data)
        if not data.endswith(b"\n"):
            raise ValueError("a name has no end")
        return data[:-1].decode()


class Unpickler:
    """Run one pickle.

    Args:
        where: the file, for messages.
        reader: at the pickle's first byte; afterwards behind its last.
        call: given a global's name and arguments, returns what the call stands for, or raises
            InputError.
        persistent: given a persistent id, returns what it stands for.
    """

    def __init__(
        self, where: str, reader: Reader, call: Call, persistent: Callable[[Any], Any]
    ) -> None:
        self._where = where
        self._reader = reader
        self._call = call
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Run the pickle to its end.

        Returns:
            Plain values, `Global`, `Inert`, and what `call` and `persistent` return.

        Raises:
            InputError: it is damaged, or has instructions or names that no tensor needs; the
                message names the byte.
        """
        start = self._reader.at
        while True:
            at = self._reader.at
            try:
                if at - start > MOST_BYTES:
                    raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
                code = self._reader.read(1)
                if code == b".":
                    return self._stack.pop()
                if code not in _STEPS:
                    raise ValueError(f"instruction {code!r} is none that tensors need")
                step, *argument = _STEPS[code]
                step(self, *argument)
            except InputError as error:
                raise InputError(f"{self._where}: byte {at}: {error}") from None
            except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
                reason = str(error) if isinstance(error, ValueError) else "what it needs is missing"
                raise InputError(
                    f"{self._where}: byte {at}: the pickle is damaged: {reason}"
                ) from None

    def _skip(self, count: int) -> None:
        self._reader.read(count)

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_new(self, kind: type) -> None:
        self._stack.append(kind())

    def _push_number(self, form: str) -> None:
        self._stack.append(self._reader.number(form))

    def _push_long(self) -> None:
        data = self._reader.read(self._reader.number("<B"))
        self._stack.append(int.from_bytes(data, "little", signed=True))

    def _push_text(self, form: str) -> None:
        self._stack.append(self._reader.read(self._reader.number(form)).decode())

    def _push_bytes(self, form: str) -> None:
        self._stack.append(self._reader.read(self._reader.number(form)))

    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _tuple_since_mark(self) -> None:
        items = tuple(self._since_mark())
        self._stack.append(items)

    def _tuple_of(self, count: int) -> None:
        items = [self._stack.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(items)))

    def _append_one(self) -> None:
        self._extend([self._stack.pop()])

    def _append_many(self) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise ValueError(f"{shown(target)} is no list")

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _set_many(self) -> None:
        self._update(self._since_mark())

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict) and len(items) % 2 == 0:
            for key, value in zip(items[::2], items[1::2], strict=True):
                set_item(target, key, value)
        elif not isinstance(target, Inert):
            raise ValueError(f"{shown(target)} is no dictionary")

    def _put(self, form: str | None) -> None:
        number = self._reader.number(form) if form else len(self._memo)
        self._memo[number] = self._stack[-1]

    def _get(self, form: str) -> None:
        self._stack.append(self._memo[self._reader.number(form)])

    def _global(self) -> None:
        module, name = self._reader.line(), self._reader.line()
        self._stack.append(Global(f"{module}.{name}"))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a global's name is not text")
        self._stack.append(Global(f"{module}.{name}"))

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Global) or type(arguments) is not tuple:
            raise ValueError(f"{shown(function)} is called")
        self._stack.append(self._call(function.name, arguments))

    def _build(self) -> None:
        self._stack.pop()
        if not isinstance(self._stack[-1], dict | Inert):  # `_metadata`, and what is inert
            raise ValueError(f"{shown(self._stack[-1])} is given a state")

    def _persistent_id(self) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


def set_item(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a new key of a dictionary.

    Raises:
        ValueError: the key is there already, or neither text nor a number.
    """
    if key is not None and not isinstance(key, str | int | float):
        raise ValueError(f"{shown(key)} is a key of a dictionary")
    if key in target:
        raise ValueError(f"the key {shown(key)} stands there twice")
    target[key] = value


_STEPS: dict[bytes, tuple[Any, ...]] = {
    b"\x80": (Unpickler._skip, 1),  # the protocol
    b"\x95": (Unpickler._skip, 8),  # a frame's length
    b"N": (Unpickler._push, None),
    b"\x88": (Unpickler._push, True),
    b"\x89": (Unpickler._push, False),
    b")": (Unpickler._push, ()),
    b"]": (Unpickler._push_new, list),
    b"\x8f": (Unpickler._push_new, list),  # a set
    b"}": (Unpickler._push_new, dict),
    b"J": (Unpickler._push_number, "<i"),
    b"K": (Unpickler._push_number, "<B"),
    b"M": (Unpickler._push_number, "<H"),
    b"G": (Unpickler._push_number, ">d"),
    b"\x8a": (Unpickler._push_long,),
    b"X": (Unpickler._push_text, "<I"),
    b"\x8c": (Unpickler._push_text, "<B"),
    b"\x8d": (Unpickler._push_text, "<Q"),
    b"T": (Unpickler._push_text, "<I"),
    b"U": (Unpickler._push_text, "<B"),
    b"B": (Unpickler._push_bytes, "<I"),
    b"C": (Unpickler._push_bytes, "<B"),
    b"\x8e": (Unpickler._push_bytes, "<Q"),
    b"(": (Unpickler._mark,),
    b"t": (Unpickler._tuple_since_mark,),
    b"\x85": (Unpickler._tuple_of, 1),
    b"\x86": (Unpickler._tuple_of, 2),
    b"\x87": (Unpickler._tuple_of, 3),
    b"a": (Unpickler._append_one,),
    b"e": (Unpickler._append_many,),
    b"\x90": (Unpickler._append_many,),
    b"s": (Unpickler._set_one,),
    b"u": (Unpickler._set_many,),
    b"q": (Unpickler._put, "<B"),
    b"r": (Unpickler._put, "<I"),
    b"\x94": (Unpickler._put, None),
    b"h": (Unpickler._get, "<B"),
    b"j": (Unpickler._get, "<I"),
    b"c": (Unpickler._global,),
    b"\x93": (Unpickler._stack_global,),
    b"R": (Unpickler._reduce,),
    b"\x81": (Unpickler._reduce,),  # a class's __new__
    b"b": (Unpickler._build,),
    b"Q": (Unpickler._persistent_id,),
}
