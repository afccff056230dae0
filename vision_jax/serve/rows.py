"""The metadata of indexed images: what requests filter by, and what is shown."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from vision_jax.gallery.conditions import is_date
from vision_jax.serve.queries import Filters

Row = dict[str, Any]
_LISTED = 2000  # labels or folders, the most frequent ones


class Facts(NamedTuple):
    """What may be filtered by.

    Attributes:
        labels: how many images have each label, by name.
        splits: likewise.
        folders: likewise.
        dates: the first and last day; None if none is known.
    """

    labels: dict[str, int]
    splits: dict[str, int]
    folders: dict[str, int]
    dates: tuple[str, str] | None


def facts_of(rows: Sequence[Row]) -> Facts:
    """Count labels, splits and folders."""
    dates = [date[:10] for row in rows if (date := date_of(row))]
    return Facts(
        _counted(label for row in rows for label in labels_of(row)),
        _counted(row["split"] for row in rows if "split" in row),
        _counted(name for row in rows if isinstance(name := row.get("folder"), str)),
        (min(dates), max(dates)) if dates else None,
    )


def shown(row: Row) -> dict[str, Any]:
    """Return what a hit says of an image, but for its score."""
    key, labels, date = row["key"], labels_of(row), date_of(row)
    told: dict[str, Any] = {"key": key, "has_image": True}
    if labels:
        told["label"] = labels if "labels" in row else labels[0]
    if "split" in row:
        told["split"] = row["split"]
    if "." in key.rpartition("/")[2][1:]:  # as PurePath.suffix, at a tenth of its time
        told["path"] = key
    if date:
        told["date"] = date
    return told


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).most_common(_LISTED)))


def tests_of(filters: Filters) -> list[Callable[[Row], bool]]:
    """Return the tests that an image must pass, but for `conditions`."""
    tests: list[Callable[[Row], bool]] = []
    if filters.labels is not None:
        labels = set(filters.labels)
        tests.append(lambda row: not labels.isdisjoint(labels_of(row)))
    if filters.splits is not None:
        splits = set(filters.splits)
        tests.append(lambda row: row["split"] in splits)
    if (folder := filters.folder) is not None:
        below = f"{folder}/"
        tests.append(
            lambda row: (
                isinstance(name := row.get("folder"), str)
                and (name == folder or name.startswith(below))
            )
        )
    if (since := filters.since) is not None:
        tests.append(lambda row: date_of(row)[: len(since)] >= since)
    if (until := filters.until) is not None:
        tests.append(lambda row: "" < date_of(row)[: len(until)] <= until)
    return tests


def labels_of(row: Row) -> list[str]:
    """Return an image's labels: none, one, or several."""
    labels = row.get("labels", row.get("label"))
    return [] if labels is None else list(labels) if isinstance(labels, list) else [labels]


def date_of(row: Row) -> str:
    """Return when an image was taken, or else last modified; empty if that is not known as a date.

    What a listing calls `taken` may be anything.
    """
    date = row.get("taken")
    if date is None:
        date = row.get("modified")
    return date if isinstance(date, str) and is_date(date) else ""
