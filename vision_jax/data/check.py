"""What is wrong with a data set or a folder of images, found by decoding all of it."""

import csv
import dataclasses
import io
import json
from collections import Counter
from pathlib import Path

from PIL import Image

from vision_jax.data.catalog import open_source
from vision_jax.data.decode import FORMATS, BadImageError, printable, read_image
from vision_jax.data.decode_all import find_bad, look_at_all
from vision_jax.data.folder_tree import Finding, read_tree
from vision_jax.data.folders import select_files
from vision_jax.data.prepare import BUILDERS
from vision_jax.data.records import scan_of
from vision_jax.errors import InputError

_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
_KINDS[".gif"] = "GIF"


@dataclasses.dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        images: how many images were looked at.
        findings: errors first, then what is only odd; each in the order of the paths.
    """

    images: int
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, images: int, findings: list[Finding]) -> "Check":
        """Sorts the findings."""
        return cls(images, tuple(sorted(findings, key=lambda f: (not f.error, f.path))))

    @property
    def errors(self) -> int:
        """How many files or folders cannot be used."""
        return sum(finding.error for finding in self.findings)


def check_data(
    name: str,
    split: str = "all",
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    image_size: int | None = None,
) -> Check:
    """Decodes every image of a data set or folder once.

    Args:
        name: `digits`, `fashion_mnist`, a folder of images, or a prepared tfds data set.
        split: what to look at, in tfds's slicing syntax.
        data_dir: where prepared data sets live; tfds's own default if None.
        manual_dir: a folder of files fetched by hand.
        image_size: side in pixels that the images are to be brought to; None wants all of one size.

    Returns:
        What was found.

    Raises:
        InputError: there is no such data set, folder or split, or it holds no image.
    """
    if name not in BUILDERS and Path(name).is_dir():
        return _check_folder(Path(name), split, image_size)
    source = open_source(
        name, split, data_dir=data_dir, manual_dir=manual_dir, image_size=image_size
    )
    return Check.of(len(source), list(find_bad(scan_of(source, str(data_dir))).values()))


def _check_folder(root: Path, split: str, size: int | None) -> Check:
    tree = read_tree(root)
    paths = [path for _, path in select_files(tree, split)]
    sound = [path for path in paths if path not in tree.faults]

    def look(index: int) -> tuple[tuple[int, ...], str] | Finding:
        file = root / sound[index]
        try:
            shape = read_image(file, channels=3, size=size).shape
            with Image.open(file, formats=FORMATS) as image:
                return shape, "JPEG" if image.format == "MPO" else str(image.format)
        except BadImageError as error:
            return Finding(printable(sound[index]), error.reason, True)

    findings = list(tree.findings)
    findings += [Finding(printable(p), tree.faults[p], True) for p in paths if p in tree.faults]
    sizes: Counter[tuple[int, ...]] = Counter()
    for path, seen in zip(sound, look_at_all(look, len(sound), printable(root)), strict=True):
        if isinstance(seen, Finding):
            findings.append(seen)
            continue
        shape, kind = seen
        sizes[shape[:2]] += 1
        if kind != _KINDS[Path(path).suffix.lower()]:
            findings.append(Finding(printable(path), f"is a {kind} by its content", False))
    if len(sizes) > 1:
        (common, count), smallest, largest = sizes.most_common(1)[0], min(sizes), max(sizes)
        what = (
            f"has images of {len(sizes)} sizes, from {_by(smallest)} to {_by(largest)}, {count} of "
            f"them {_by(common)}; training takes --data.image-size"
        )
        findings.append(Finding(".", what, False))
    if len(tree.classes) == 1 and not tree.unlabelled:
        what = f"has one class, {printable(tree.classes[0])}; recognition takes two or more"
        findings.append(Finding(".", what, False))
    return Check.of(len(paths), findings)


def _by(size: tuple[int, ...]) -> str:
    height, width = size
    return f"{width}x{height}"


def print_check(check: Check, name: str) -> None:
    """Prints a table of what is wrong with which file, and a line of counts."""
    width = min(60, max((len(finding.path) for finding in check.findings), default=0))
    for finding in check.findings:
        kind = "error" if finding.error else "warning"
        print(f"{kind:<9}{finding.path:<{width}}  {finding.what}")
    warnings = len(check.findings) - check.errors
    print(f"{name}: {check.images} images, {check.errors} errors, {warnings} warnings")


def write_check(check: Check, path: Path) -> None:
    """Writes the table as CSV or JSON.

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
        raise InputError(f"{str(path)!r} is to be written; a name in .csv or .json is needed")
    path.write_text(text, encoding="utf-8")
