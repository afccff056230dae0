"""Values of configs, checked against the annotations of their fields."""

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, Literal

from vision_jax.errors import InputError


def require(condition: bool, name: str, got: Any, needed: str) -> None:
    """Refuse the value of a config's field unless a condition holds.

    Raises:
        InputError: the condition is false; the message names the field, its value and what it must
            be.
    """
    if not condition:
        raise InputError(f"{name} is {got!r}; it must be {needed}")


def check_fields(config: Any, prefix: str = "") -> None:
    """Check every field of a frozen dataclass, and of those within it, in place.

    What means the same is converted: a path to its text, NumPy's numbers to Python's, integers to
    floats, lists to tuples.

    Args:
        config: the dataclass.
        prefix: what stands before the fields' names in messages.

    Raises:
        InputError: a value is of another type, none of the choices, or NaN or infinite, which JSON
            does not have.
    """
    kind: Any = type(config)
    hints = _hints(kind)
    for entry in dataclasses.fields(config):
        value = checked_value(getattr(config, entry.name), hints[entry.name], prefix + entry.name)
        object.__setattr__(config, entry.name, value)


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def checked_value(value: Any, hint: Any, name: str) -> Any:
    """Check a value against an annotation, and convert what means the same; see `check_fields`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return checked_value(value, _kind_of(value, arguments), name)
    if origin is Literal:
        return check_choice(value, arguments, name)
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(checked_value(each, arguments[0], name) for each in value)
    if origin is dict and isinstance(value, Mapping):
        if arguments[1] is Any:
            return dict(value)
        return {
            key: checked_value(each, arguments[1], f"{name} of {key}")
            for key, each in value.items()
        }
    if dataclasses.is_dataclass(hint) and isinstance(value, typing.cast(type, hint)):
        check_fields(value, f"{name}.")
        return value
    if hint is str and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        if hint is bool:
            return value
    elif hint is int and isinstance(value, Integral):
        return int(value)
    elif hint is float and isinstance(value, Real):
        if not math.isfinite(value):
            raise InputError(f"{name} is {value!r}; it must be finite")
        return float(value) if not isinstance(value, int) else value
    needed = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    raise InputError(f"{name} is {value!r}; it must be of type {needed}")


def _kind_of(value: Any, kinds: Sequence[Any]) -> Any:
    """Choose the kind to check a value against: a dict's, a list's, else the first that is none."""
    origins: dict[Any, bool] = {dict: isinstance(value, Mapping)}
    origins[tuple] = isinstance(value, Sequence) and not isinstance(value, str)
    wanted = next((origin for origin, fits in origins.items() if fits), None)
    kinds = [kind for kind in kinds if kind is not type(None)]
    held = {origin: kind for kind in kinds if (origin := typing.get_origin(kind)) in origins}
    plain = [kind for kind in kinds if typing.get_origin(kind) not in origins]
    return held.get(wanted, (plain or kinds)[0])


def check_choice(value: Any, choices: Sequence[Any], name: str) -> Any:
    """Return a value that is one of the choices.

    Args:
        value: what was given.
        choices: what may be given.
        name: what the value is called in messages.

    Raises:
        InputError: it is none of them; the message names all and the closest.
    """
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), list(map(str, choices)), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    needed = ", ".join(map(str, choices))
    raise InputError(f"{name} is {value!r}; {hint}it must be one of {needed}")
