"""Parse a listing: a CSV, TSV or JSON-lines file that names images and their labels."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vision_jax.data.exif import Details
from vision_jax.errors import InputError
from vision_jax.files import reading

SUFFIXES = (".csv", ".tsv", ".jsonl")
SEPARATOR = "|"
"""Between the labels of an image, in a CSV or TSV file."""
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_COLUMNS = frozenset(("file", "label", "labels", "split"))
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?", re.ASCII)
_KEPT = ("key", "digest")
"""Metadata of every indexed image, which columns may not be called."""


class Entry(NamedTuple):
    """An image of a listing.

    Attributes:
        line: where the listing names it, counted from 1.
        file: the path, as it is written there.
        labels: its labels, without repetitions; exactly one unless the listing has `labels`.
        split: the name of its split, as it is written there; None without that column.
        metadata: the other columns, empty values left out. A CSV column of which all values are
            numbers holds numbers.
    """

    line: int
    file: str
    labels: tuple[str, ...]
    split: str | None
    metadata: Details


class Listing(NamedTuple):
    """What a listing holds.

    Attributes:
        entries: its images, at least one.
        multi_label: whether images have any number of labels (`labels`), or one each (`label`).
    """

    entries: list[Entry]
    multi_label: bool


class _Row(NamedTuple):
    line: int
    values: dict[str, Any]


def is_listing(path: Path) -> bool:
    """Whether a path is named as a listing, and is no folder."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read_listing(path: Path) -> Listing:
    """Read a listing. No image is opened.

    Args:
        path: a file that ends in .csv, .tsv or .jsonl, in UTF-8. Columns are `file`, `label` or
            `labels`, and where there is one `split`; any others are metadata. Several labels are
            separated by `|`, or in JSON a list.

    Raises:
        InputError: it cannot be read, or a line of it is not as it should be.
    """
    text = _read_text(path)
    if path.suffix.lower() == ".jsonl":
        rows = list(_json_rows(path, text))
    else:
        rows = list(_csv_rows(path, text, _DELIMITERS[path.suffix.lower()]))
        _make_numbers([row.values for row in rows])
    if not rows:
        raise InputError(f"{path} lists 0 images; 1 or more are needed")
    kind = _label_column(path, rows[0])
    return Listing([_entry(path, row, kind, rows[0]) for row in rows], kind == "labels")


def bad_line(path: Path, line: int, what: str) -> InputError:
    """Return the error for a line of a listing."""
    return InputError(f"{path}, line {line}: {what}")


def _read_text(path: Path) -> str:
    with reading(path, "a listing of images is needed") as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise bad_line(path, line, f"{found}; save the file as UTF-8") from None


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for values in reader:
            if not header:
                header = [name.strip() for name in values]
                if header:
                    _check_header(path, line, header)
            elif values and len(values) != len(header):
                what = f"has {len(values)} values; {len(header)} are needed, {', '.join(header)}"
                raise bad_line(path, line, what)
            elif values:
                yield _Row(line, dict(zip(header, map(str.strip, values), strict=True)))
            line = reader.line_num + 1  # a quoted value may span lines
    except csv.Error as error:
        raise bad_line(path, line, f"is not valid CSV: {error}") from None


def _make_numbers(rows: list[dict[str, Any]]) -> None:
    """Turn the metadata columns of a CSV file whose values are all numbers into numbers."""
    for name in rows[0].keys() - _COLUMNS if rows else ():
        there = [row for row in rows if row[name]]
        if all(_NUMBER.fullmatch(row[name]) for row in there):
            whole = all(row[name].lstrip("-").isdecimal() for row in there)
            for row in there:
                row[name] = int(row[name]) if whole else float(row[name])


def _check_header(path: Path, line: int, header: list[str]) -> None:
    if "" in header:
        raise bad_line(path, line, f"column {header.index('') + 1} has no name")
    if twice := [name for name in header if header.count(name) > 1]:
        raise bad_line(path, line, f"two columns are called {twice[0]!r}")
    _label_column(path, _Row(line, dict.fromkeys(header)))


def _json_rows(path: Path, text: str) -> Iterator[_Row]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(
                content,
                object_pairs_hook=_without_twins,
                parse_constant=_refuse,
                parse_float=_finite,
            )
        except (ValueError, RecursionError) as error:
            raise bad_line(path, line, f"is not valid JSON: {error}") from None
        if not isinstance(row, dict):
            what = f'is {_kind(row)}; an object such as {{"file": "1.png", "label": "cat"}}'
            raise bad_line(path, line, f"{what} is needed")
        yield _Row(line, row)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is there twice")
    return values


def _finite(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refuse(text)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _label_column(path: Path, row: _Row) -> str:
    """Return which of `label` and `labels` a listing has, by its header or its first row."""
    kinds = [name for name in ("label", "labels") if name in row.values]
    if "file" not in row.values or len(kinds) != 1:
        needed = "file and either label or labels are needed"
        names = ", ".join(map(str, row.values)) or "none"
        raise bad_line(path, row.line, f"the columns are {names}; {needed}")
    if clash := [name for name in _KEPT if name in row.values]:
        what = f"a column is called {clash[0]!r}, which an index keeps for itself"
        raise bad_line(path, row.line, f"{what}; another name is needed")
    return kinds[0]


def _entry(path: Path, row: _Row, kind: str, first: _Row) -> Entry:
    """Check a row of the same kind as the first."""
    if _label_column(path, row) != kind:
        what = f"has {_label_column(path, row)}, and line {first.line} has {kind}"
        raise bad_line(path, row.line, f"{what}; one of the two is needed")
    if ("split" in row.values) != ("split" in first.values):
        what = "has" if "split" in row.values else "has no"
        raise bad_line(path, row.line, f"{what} split, unlike line {first.line}")
    values = dict(row.values)
    split = values.pop("split", None)
    file = _text(path, row.line, "file", values.pop("file"))
    labels = _labels(path, row.line, kind, values.pop(kind))
    if "split" in first.values:
        split = _text(path, row.line, "split", split)
    return Entry(row.line, file, labels, split, _metadata(path, row.line, values))


def _labels(path: Path, line: int, kind: str, value: Any) -> tuple[str, ...]:
    if kind == "label":
        return (_text(path, line, kind, value),)
    if isinstance(value, str) and path.suffix.lower() != ".jsonl":
        value = value.split(SEPARATOR) if value else []
    if not isinstance(value, list):
        raise bad_line(path, line, f"labels is {_kind(value)}; a list of texts is needed")
    return tuple(dict.fromkeys(_text(path, line, "a label", label) for label in value))


def _text(path: Path, line: int, name: str, value: Any) -> str:
    """Return a value as text; integers, which label many data sets, are written out."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise bad_line(path, line, f"{name} is {_kind(value)}; text is needed")
    if not (text := text.strip()):
        raise bad_line(path, line, f"{name} is empty; text is needed")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise bad_line(path, line, f"{name} is {text!r}, half of a character; text is needed")
    return text


def _metadata(path: Path, line: int, values: dict[str, Any]) -> Details:
    for name, value in values.items():
        if isinstance(value, list | dict):
            raise bad_line(path, line, f"{name} is {_kind(value)}; text or a number is needed")
    return {name: value for name, value in values.items() if value not in (None, "")}


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "a boolean"}
    return names.get(type(value), "a number")
