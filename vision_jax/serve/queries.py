"""Requests to search, as JSON says them and as checked values."""

import base64
import binascii
import dataclasses
import re
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Float

from vision_jax.gallery.conditions import parse_condition
from vision_jax.search.arrays import without_direction
from vision_jax.search.duplicates import check_threshold
from vision_jax.serve.faults import Limits, RequestError, naming
from vision_jax.serve.fields import Fields, is_number, told

K = 20
FILTERS = ("labels", "splits", "folder", "from", "to", "conditions")
OPTIONS = ("k", "offset", "min_score", "fold", "mmr")
_WIDEST = 1 << 16  # numbers of a vector
_LARGEST = float(np.finfo(np.float32).max)
_MOST = 1000  # labels, splits or conditions
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Example:
    """An image that was sent, or the key of an indexed one.

    Attributes:
        path: the field that it came in.
        data: the encoded image, or
        key: the key.
    """

    path: str
    data: bytes | None = None
    key: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """What is looked up.

    Attributes:
        path: the field that it came in.
        like: images to find more of: the one to look up, or the examples of `combined`.
        unlike: what to keep away from.
        combined: whether these are examples, of which one vector is made.
        box: the part of the one image, in fractions.
        vector: looked up instead of images.
    """

    path: str
    like: tuple[Example, ...] = ()
    unlike: tuple[Example, ...] = ()
    combined: bool = False
    box: Box | None = None
    vector: Float[np.ndarray, " dim"] | None = None


@dataclasses.dataclass(frozen=True)
class Filters:
    """Which indexed images may be found; None where all may.

    Attributes:
        labels: any of these.
        splits: any of these.
        folder: it, or one below it.
        since: `taken`, or else `modified`, from this date on.
        until: up to this date, all of its time included.
        conditions: as `vision-jax search --where` takes them.
    """

    labels: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None
    folder: str | None = None
    since: str | None = None
    until: str | None = None
    conditions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Options:
    """How to search; see `gallery.find_hits`."""

    k: int = K
    offset: int = 0
    min_score: float | None = None
    fold: float | None = None
    mmr: float | None = None
    where: Filters = Filters()


@dataclasses.dataclass(frozen=True, eq=False)
class SearchRequest:
    """A parsed request: the index's name or None, what is looked up, and how."""

    index: str | None
    queries: tuple[Query, ...]
    options: Options


def parse_search(body: Any, limits: Limits) -> SearchRequest:
    """Read the body of a search.

    Raises:
        RequestError: it is none.
    """
    fields = Fields(body, "", ("index", "queries", "where", *OPTIONS))
    queries = tuple(
        _query(value, path, limits) for path, value in fields.items("queries", 1, limits.queries)
    )
    where = Filters()
    if "where" in fields:
        where = parse_filters(Fields(fields.get("where"), "where", FILTERS))
    return SearchRequest(fields.text("index"), queries, parse_options(fields, where, limits))


def parse_options(fields: Fields, where: Filters, limits: Limits) -> Options:
    """Read how to search.

    Raises:
        RequestError: a value is out of range.
    """
    fold = fields.number("fold", 0.0, 1.0)
    if fold is not None:
        with naming(fields.path("fold")):
            check_threshold(fold, "fold")
    options = Options(
        fields.integer("k", min(K, limits.k), 1, limits.k),
        fields.integer("offset", 0, 0, limits.k),
        fields.number("min_score", -1.0, 1.0),
        fold,
        fields.number("mmr", 0.0, 1.0),
        where,
    )
    if options.offset + options.k > limits.k:
        raise fields.fault("offset", f"with k {options.k} at most {limits.k - options.k}")
    if options.mmr is not None and options.offset:
        raise fields.fault("offset", "with mmr 0")
    return options


def parse_filters(fields: Fields) -> Filters:
    """Read which images may be found.

    Raises:
        RequestError: a date or a condition cannot be read.
    """
    conditions = fields.texts("conditions", _MOST) or ()
    for place, condition in enumerate(conditions):
        with naming(f"{fields.path('conditions')}.{place}"):
            parse_condition(condition)
    return Filters(
        fields.texts("labels", _MOST),
        fields.texts("splits", _MOST),
        fields.text("folder"),
        _date(fields, "from"),
        _date(fields, "to"),
        conditions,
    )


def parse_example(value: Any, path: str) -> Example:
    """Read an image or a key.

    Raises:
        RequestError: it is neither, or both.
    """
    fields = Fields(value, path, ("image", "key"))
    return _example(fields, path, ("image", "key"))


def _query(value: Any, path: str, limits: Limits) -> Query:
    fields = Fields(value, path, ("image", "key", "vector", "like", "unlike", "box"))
    kinds = [name for name in ("image", "key", "vector", "like") if name in fields]
    if len(kinds) != 1:
        raise RequestError(
            f"a query has {' and '.join(kinds) or 'nothing to look up'}; exactly one of image, "
            "key, vector, like is needed",
            field=path,
        )
    kind = kinds[0]
    if "unlike" in fields and kind != "like":
        raise fields.fault("unlike", f"like beside it, and not {kind},")
    if "box" in fields and kind not in ("image", "key"):
        raise fields.fault("box", f"an image or a key, and not {kind},")
    if kind == "vector":
        return Query(path, vector=_vector(fields))
    if kind == "like":
        like, unlike = (
            tuple(
                parse_example(item, at) for at, item in fields.items(name, least, limits.examples)
            )
            for name, least in (("like", 1), ("unlike", 0))
        )
        return Query(path, like, unlike, combined=True)
    return Query(path, (_example(fields, path, (kind,)),), box=_box(fields))


def _example(fields: Fields, path: str, kinds: tuple[str, ...]) -> Example:
    given = [name for name in kinds if name in fields]
    if len(given) != 1:
        got = " and ".join(given) or "neither"
        raise RequestError(f"an example has {got}; one of image, key is needed", field=path)
    at = fields.path(given[0])
    if given[0] == "key":
        return Example(at, key=fields.text("key"))
    return Example(at, data=_image(fields))


def _image(fields: Fields) -> bytes:
    text = fields.text("image") or ""
    start = _DATA_URL.match(text)
    try:
        data = base64.b64decode(text[start.end() if start else 0 :], validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise fields.fault("image", "an image file in base64, or as a data: URL in base64,")
    return data


def _box(fields: Fields) -> Box | None:
    if "box" not in fields:
        return None
    box = fields.get("box")
    sound = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
    if not sound or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        got = ", ".join(map(told, box)) if isinstance(box, list) and len(box) == 4 else told(box)
        needed = "left, top, right, bottom with 0 <= left < right <= 1 and 0 <= top < bottom <= 1"
        raise RequestError(f"box is {got}; {needed} are needed", field=fields.path("box"))
    left, top, right, bottom = map(float, box)
    return left, top, right, bottom


def _vector(fields: Fields) -> Float[np.ndarray, " dim"]:
    values = fields.get("vector")
    if not isinstance(values, list) or not 1 <= len(values) <= _WIDEST:
        raise fields.fault("vector", "a list of numbers")
    for place, value in enumerate(values):
        if not is_number(value) or abs(value) > _LARGEST:
            raise RequestError(
                f"vector holds {told(value)}; finite numbers are needed",
                field=f"{fields.path('vector')}.{place}",
            )
    vector = np.array(values, np.float32)
    if len(without_direction(vector[None])):
        raise RequestError(
            "vector is zero; one with a direction is needed", field=fields.path("vector")
        )
    return vector


def _date(fields: Fields, name: str) -> str | None:
    date = fields.text(name)
    if date is None:
        return None
    try:
        if not _DATE.fullmatch(date):
            raise ValueError
        datetime.fromisoformat((date + "-01-01")[:10])
    except ValueError:
        raise fields.fault(name, "a date such as 2024-05-17, 2024-05 or 2024") from None
    return date
