"""Conditions on metadata of indexed images: `label=cat`, `taken>=2024-05`, `latitude=40..50`."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from vision_jax.errors import InputError

Row = dict[str, Any]
"""The metadata of an image."""
Kind = Literal["text", "number", "date"]

FORM = "FIELD=VALUE, FIELD=LOW..HIGH, or FIELD, one of < <= > >=, and a value"
_CONDITION = re.compile(r"([^<>=]+)(<=|>=|=|<|>)(.*)", re.DOTALL)
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?")
_FIRST = "0001-01-01T00:00:00"  # completes a date
_TEXT = ("key", "digest", "split", "label", "camera", "folder")
"""Fields that are text even where all their values look like dates or numbers."""


class Condition(NamedTuple):
    """One condition, as it was written: a field, `=`, `<`, `<=`, `>` or `>=`, and a value."""

    field: str
    sign: str
    value: str

    def __str__(self) -> str:
        return "".join(self)


def parse_condition(text: str) -> Condition:
    """Take a condition apart; the first sign divides it, so that values may hold others.

    Raises:
        InputError: It has no field or no sign.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise InputError(f"a condition is {text!r}; it must be {FORM}")
    return Condition(*found.groups())


def meets(rows: Sequence[Row], conditions: Sequence[str]) -> list[bool]:
    """Say which images meet conditions.

    A field whose values are all numbers, or all ISO dates such as `2024-05-17T14:03:22`, is
    compared as such, any other as text, which knows `=` alone. A shortened date stands for all of
    its time: `taken=2024-05` and `taken<=2024-05` hold through May. `LOW..HIGH` includes both ends.
    An image without the field meets no condition on it.

    Args:
        rows: The metadata of each image, at least one.
        conditions: Conditions as text. Of those of one field with `=` one must hold; all others
            must hold.

    Returns:
        One boolean per image.

    Raises:
        InputError: A condition cannot be read, names a field that no image has, or its value does
            not fit the field's.
    """
    parsed = [parse_condition(text) for text in conditions]
    fields = {name for row in rows for name in row}
    if unknown := [part.field for part in parsed if part.field not in fields]:
        raise InputError(f"images have no {unknown[0]!r}; they have {', '.join(sorted(fields))}")
    met = [True] * len(rows)
    for field in dict.fromkeys(part.field for part in parsed):
        values = [_value(row, field) for row in rows]
        kind = _kind(field, values)
        tests = [(part.sign, _TESTS[kind](part)) for part in parsed if part.field == field]
        some = [test for sign, test in tests if sign == "="]
        every = [test for sign, test in tests if sign != "="]
        for place, value in enumerate(values):
            met[place] &= (
                value is not None
                and all(test(value) for test in every)
                and (not some or any(test(value) for test in some))
            )
    return met


def _value(row: Row, field: str) -> Any:
    """Return a field; for `label`, all labels of an image that may have several."""
    return row.get("labels", row.get(field)) if field == "label" else row.get(field)


def _kind(field: str, values: Sequence[Any]) -> Kind:
    there = [value for value in values if value is not None]
    if field in _TEXT or not there:
        return "text"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
        return "number"
    return "date" if all(map(is_date, there)) else "text"


def is_date(value: Any) -> bool:
    """Tell whether a value is an ISO date, which may be shortened, such as `2024-05`."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(_completed(value))
    except ValueError:
        return False
    return True


def _completed(date: str) -> str:
    """Return the first second of a shortened date."""
    return date.replace(" ", "T") + _FIRST[len(date) :]


def _text_test(condition: Condition) -> Callable[[Any], bool]:
    if condition.sign != "=":
        raise InputError(
            f"a condition is {str(condition)!r}, and {condition.field} is text; only = is possible"
        )
    return lambda value: (
        condition.value in map(_text, value if isinstance(value, list) else [value])
    )


def _text(value: Any) -> str:
    """Write a value as a listing does: true and false as JSON has them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number_test(condition: Condition) -> Callable[[Any], bool]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise InputError(
                f"a condition is {str(condition)!r}, and {condition.field} is a number; one such "
                "as 40.5, or a range such as 40..50, is needed"
            )
        return number

    low, high = (read(end) for end in _ends(condition))
    _check_range(condition, low, high)
    return _comparison(condition.sign, low, high)


def _date_test(condition: Condition) -> Callable[[Any], bool]:
    ends = [end.strip().replace(" ", "T") for end in _ends(condition)]
    if not all(map(is_date, ends)):
        raise InputError(
            f"a condition is {str(condition)!r}, and {condition.field} is a date; one such as "
            "2024-05-17, 2024-05 or 2024-05-17T14:03, or a range such as 2023..2024-05, is needed"
        )
    low, high = ends
    shorter = min(len(low), len(high))
    _check_range(condition, low[:shorter], high[:shorter])
    # ISO dates compare as text does, each cut to what its bound says.
    return _comparison(condition.sign, low, high, lambda date, end: _completed(date)[: len(end)])


_TESTS: dict[Kind, Callable[[Condition], Callable[[Any], bool]]] = {
    "text": _text_test,
    "number": _number_test,
    "date": _date_test,
}


def _ends(condition: Condition) -> tuple[str, str]:
    """Return both ends of a range, or a single value twice."""
    low, dots, high = condition.value.partition("..")
    return (low, high) if dots and condition.sign == "=" else (condition.value,) * 2


def _check_range(condition: Condition, low: Any, high: Any) -> None:
    if low > high:
        raise InputError(f"a condition is {str(condition)!r}, an empty range; the lower end first")


def _comparison(
    sign: str, low: Any, high: Any, cut: Callable[[Any, Any], Any] = lambda value, _: value
) -> Callable[[Any], bool]:
    tests: dict[str, Callable[[Any], bool]] = {
        "=": lambda value: cut(value, low) >= low and cut(value, high) <= high,
        "<": lambda value: cut(value, low) < low,
        "<=": lambda value: cut(value, low) <= low,
        ">": lambda value: cut(value, low) > low,
        ">=": lambda value: cut(value, low) >= low,
    }
    return tests[sign]
