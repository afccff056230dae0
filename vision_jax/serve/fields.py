"""Checked reading of JSON: each fault names the field's path."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from vision_jax.serve.faults import RequestError

_SHOWN = 60  # characters of a value in a message


class Fields:
    """A JSON object, read field by field.

    Args:
        value: what was sent.
        path: where it is in the request; empty for all of it.
        known: the fields that it may have.

    Raises:
        RequestError: it is no object, or has other fields.
    """

    def __init__(self, value: Any, path: str, known: Iterable[str]) -> None:
        self._path = path
        if not isinstance(value, dict):
            raise RequestError(
                f"{path or 'the body'} is {told(value)}; an object is needed", field=path
            )
        names = sorted(known)
        for name in value:
            if name not in names:
                raise RequestError(
                    f"{name[:_SHOWN]!r} is no field here; one of {', '.join(names)} is needed",
                    field=self.path(name[:_SHOWN]),
                )
        # A field that is null counts as left out.
        self._value = {name: part for name, part in value.items() if part is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def path(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def get(self, name: str) -> Any:
        """Return a field as it was sent, or None."""
        return self._value.get(name)

    def fault(self, name: str, needed: str) -> RequestError:
        """Make the fault of a field."""
        value = told(self._value.get(name))
        return RequestError(f"{name} is {value}; {needed} is needed", field=self.path(name))

    def text(self, name: str, default: str | None = None) -> str | None:
        """Read text."""
        if name not in self:
            return default
        value = self._value[name]
        if not isinstance(value, str):
            raise self.fault(name, "text")
        return value

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """Read a whole number in [least, most]."""
        if name not in self:
            return default
        value = self._value[name]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not least <= value <= most:
            raise self.fault(name, f"a whole number in [{least}, {most}]")
        return int(value)

    def number(self, name: str, least: float, most: float) -> float | None:
        """Read a number in [least, most]; None without one."""
        if name not in self:
            return None
        value = self._value[name]
        if not is_number(value) or not least <= value <= most:
            raise self.fault(name, f"a number in [{least:g}, {most:g}]")
        return float(value)

    def items(self, name: str, least: int, most: int) -> Iterator[tuple[str, Any]]:
        """Read a list: the path and value of each item."""
        value = self._value.get(name, [])
        if not isinstance(value, list) or not least <= len(value) <= most:
            got = f"a list of {len(value)}" if isinstance(value, list) else told(value)
            needed = f"a list of {least} to {most} is needed"
            raise RequestError(f"{name} is {got}; {needed}", field=self.path(name))
        for place, item in enumerate(value):
            yield f"{self.path(name)}.{place}", item

    def texts(self, name: str, most: int) -> tuple[str, ...] | None:
        """Read a list of text; None without one."""
        if name not in self:
            return None
        found = []
        for path, item in self.items(name, 0, most):
            if not isinstance(item, str):
                raise RequestError(f"{name} holds {told(item)}; text is needed", field=path)
            found.append(item)
        return tuple(found)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number that a float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def told(value: Any) -> str:
    """Describe a JSON value in a message, shortened."""
    if value is None:
        return "missing"
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}"
    try:
        text = repr(value)
    except ValueError:  # more digits than Python prints
        return "a huge number"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
