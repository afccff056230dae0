"""Errors of the library in the words of the command line: `batch_size` as `--data.batch-size`."""

import dataclasses
import inspect
import re
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any


def in_options(message: str, command: Callable[..., Any]) -> str:
    """Replace the names of fields and arguments in a message by a command's options.

    Args:
        message: a library's error message. A name is taken for one where it holds a dot or an
            underscore, or where `is` follows it.
        command: the function from whose signature the options are generated.

    Returns:
        The message, with options where the command has them.
    """
    options = _options(command)
    plain = {name for name in options if not re.search(r"[._]", name)}
    for names, after in ((options.keys() - plain, r"(?![\w.])"), (plain, r"(?= is\b)")):
        if names:
            words = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
            message = re.sub(
                rf"(?<![\w.'\"/-])({words}){after}", lambda found: options[found[1]], message
            )
    return message


def _options(command: Callable[..., Any]) -> dict[str, str]:
    """Map arguments' names, dotted and where that is clear bare, to a command's options."""
    paths = list(_paths(command))
    leaves = Counter(path.rpartition(".")[2] for path in paths)
    names: dict[str, str] = {}
    for path in paths:
        option = "--" + path.replace("_", "-")
        leaf = path.rpartition(".")[2]
        names |= {path: option} | ({leaf: option} if leaves[leaf] == 1 else {})
    return names


def _paths(command: Callable[..., Any]) -> Iterator[str]:
    hints = typing.get_type_hints(command, include_extras=True)
    for name in inspect.signature(command).parameters:
        kind, *marks = typing.get_args(hints[name]) if _annotated(hints[name]) else (hints[name],)
        if dataclasses.is_dataclass(kind):
            flat = any(getattr(mark, "name", None) == "" for mark in marks)
            yield from _fields(typing.cast(type, kind), "" if flat else f"{name}.")
        elif "Positional" not in repr(marks):
            yield next(filter(None, (getattr(mark, "name", None) for mark in marks)), name)


def _fields(kind: type, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _fields(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _annotated(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Annotated
