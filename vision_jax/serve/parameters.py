"""The parameters of a request's address, checked as fields of JSON are."""

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request

from vision_jax.serve.faults import Limits, RequestError
from vision_jax.serve.fields import Fields
from vision_jax.serve.queries import Filters, Options, parse_filters, parse_options

_NUMBERS = ("k", "offset", "limit", "side", "min_score", "fold", "mmr")
_LISTS = {"label": "labels", "split": "splits"}


class Parameters:
    """The parameters of a request.

    Args:
        request: the request.
        known: which it may have; those of `label` and `split` several times.

    Raises:
        RequestError: it has another, or one twice.
    """

    def __init__(self, request: Request, known: Iterable[str]) -> None:
        given: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            if name in given and name not in _LISTS:
                raise RequestError(f"{name} is given twice; once is needed", field=name)
            if name in _LISTS:
                given.setdefault(name, []).append(value)
            else:
                given[name] = _number(value) if name in _NUMBERS else value
        self._fields = Fields(given, "", known)

    def get(self, name: str) -> str | None:
        """Read text."""
        return self._fields.text(name)

    def needed(self, name: str) -> str:
        """Read text that must be there."""
        value = self.get(name)
        if value is None:
            raise self._fields.fault(name, "text")
        return value

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """Read a whole number in [least, most]."""
        return self._fields.integer(name, default, least, most)

    def options(self, limits: Limits) -> Options:
        """Read how to search."""
        return parse_options(self._fields, Filters(), limits)

    def filters(self) -> Filters:
        """Read which images are meant."""
        given = {
            _LISTS.get(name, name): self._fields.get(name)
            for name in ("label", "split", "folder", "from", "to")
        }
        return parse_filters(Fields(given, "", given))


def _number(text: str) -> Any:
    """Read a number as JSON would; what is none stays text, which is refused where it is read."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
