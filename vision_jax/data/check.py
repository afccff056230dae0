"""Find what is wrong with a data set, folder or listing, by decoding all of it."""

import csv
import dataclasses
import io
import json
import os
from collections import Counter
from pathlib import Path

from vision_jax.config import Truncated
from vision_jax.data.catalog import open_data
from vision_jax.data.data_set import DataSet
from vision_jax.data.decode import BadImageError, decode_image, printable
from vision_jax.data.decode_all import find_bad, look_at_all
from vision_jax.data.findings import Finding
from vision_jax.data.folders import FolderData
from vision_jax.data.formats import KINDS
from vision_jax.data.records import scan_of
from vision_jax.data.resize import Size
from vision_jax.errors import InputError
from vision_jax.files import write_text

_LISTED = 10
"""Warnings of one kind that are printed."""


@dataclasses.dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        images: number of images looked at.
        findings: errors first, then what is only odd; each in the order of the paths.
    """

    images: int
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, images: int, findings: list[Finding]) -> "Check":
        """Sort the findings."""
        return cls(images, tuple(sorted(findings, key=lambda f: (not f.error, f.path))))

    @property
    def errors(self) -> int:
        """The number of files or folders that cannot be used."""
        return sum(finding.error for finding in self.findings)


def check_data(
    name: str | os.PathLike[str],
    split: str = "all",
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    image_size: Size | None = None,
    links: bool = False,
    truncated: Truncated = "error",
) -> Check:
    """Decode every image of a data set or folder once.

    With `all`, also list what training would find unusual: missing splits, classes that would not
    be trained on.

    Args:
        name: `digits`, `fashion_mnist`, a folder of images, a listing, or a prepared
            tfds data set.
        split: what to look at, in tfds's slicing syntax.
        data_dir: where prepared data sets live; tfds's own default if None.
        manual_dir: a folder of manually downloaded files.
        image_size: pixels to bring images to, a square's side or (height, width); None expects
            images of one size.
        links: see `open_source`.
        truncated: see `open_source`.

    Returns:
        What was found.

    Raises:
        InputError: there is no such data set, folder or split, or it holds no image.
    """
    data = open_data(
        name,
        data_dir=data_dir,
        manual_dir=manual_dir,
        image_size=image_size,
        bad_files="later",
        links=links,
        truncated=truncated,
    )
    found = _unusual_splits(data) if split == "all" else []
    if isinstance(data, FolderData):
        return _check_folder(data, split, found)
    source = data.source(split)
    found += find_bad(scan_of(source, str(data_dir))).values()
    return Check.of(len(source), found)


def _unusual_splits(data: DataSet) -> list[Finding]:
    """List what is unusual about the splits that training would take by default."""
    try:
        return data.plan()[1]
    except InputError as error:
        return [Finding(".", f"cannot be trained on as it is: {error}", False)]


def _check_folder(data: FolderData, split: str, found: list[Finding]) -> Check:
    tree, chosen = data.tree, data.select(split)
    sound = [path for _, path in chosen if path not in tree.faults]

    def look(index: int) -> tuple[tuple[int, ...], str, tuple[str, ...]] | Finding:
        try:
            pixels, kind, notes = decode_image(
                tree.root / sound[index], channels=3, size=data.size, truncated=data.truncated
            )
        except BadImageError as error:
            return Finding(printable(sound[index]), error.reason, True)
        return pixels.shape, kind, notes

    found = [*found, *tree.findings, *data.faults(chosen)]
    sizes: Counter[tuple[int, ...]] = Counter()
    for path, seen in zip(sound, look_at_all(look, len(sound), data.name), strict=True):
        if isinstance(seen, Finding):
            found.append(seen)
            continue
        shape, kind, notes = seen
        sizes[shape[:2]] += 1
        if kind != KINDS[Path(path).suffix.lower()]:
            notes = (*notes, f"is a {kind} by its content")
        found += [Finding(printable(path), note, False) for note in notes]
    if len(sizes) > 1:
        (common, count), smallest, largest = sizes.most_common(1)[0], min(sizes), max(sizes)
        what = (
            f"has images of {len(sizes)} sizes, from {_by(smallest)} to {_by(largest)}, {count} of "
            f"them {_by(common)}; training needs image_size"
        )
        found.append(Finding(".", what, False))
    return Check.of(len(chosen), found)


def _by(size: tuple[int, ...]) -> str:
    height, width = size
    return f"{width}x{height}"


def print_check(check: Check, name: str) -> None:
    """Print a table of what is wrong with which file, and a line of counts.

    Of many warnings of one kind, such as a thousand classes without test images, the first are
    listed and the others counted.
    """
    alike = Counter(finding.what for finding in check.findings if not finding.error)
    listed: Counter[str] = Counter()
    width = min(60, max((len(finding.path) for finding in check.findings), default=0))
    for path, what, error in check.findings:
        kind = "error" if error else "warning"
        listed[what] += not error
        if listed[what] > _LISTED and alike[what] > _LISTED + 1:
            if listed[what] == alike[what]:
                print(f"{kind:<9}{f'{alike[what] - _LISTED} more':<{width}}  {what}")
            continue
        print(f"{kind:<9}{path:<{width}}  {what}")
    warnings = len(check.findings) - check.errors
    print(f"{name}: {check.images} images, {check.errors} errors, {warnings} warnings")


def write_check(check: Check, path: Path) -> None:
    """Write the table as CSV or JSON.

    Args:
        check: what was found.
        path: a file that ends in .csv or .json; rows of `file`, `what` and `severity`.

    Raises:
        InputError: it ends in neither.
    """
    rows = [
        {"file": f.path, "what": f.what, "severity": "error" if f.error else "warning"}
        for f in check.findings
    ]
    if path.suffix == ".json":
        text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    elif path.suffix == ".csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, ["file", "what", "severity"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = buffer.getvalue()
    else:
        raise InputError(
            f"{str(path)!r} is to be written; a name that ends in .csv or .json is needed"
        )
    write_text(path, text)
