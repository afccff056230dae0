"""What lies in a folder of images: files by split and class, and all that is odd about it."""

import dataclasses
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vision_jax.data.decode import SUFFIXES, path_fault, printable
from vision_jax.errors import InputError

SPLITS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
# Besides hidden files: what systems leave in folders of pictures, in lower case.
SYSTEM_NAMES = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
    | {"__macosx", "@eadir", "lost+found"}
)
_TEST_FRACTION = 0.2


class Finding(NamedTuple):
    """Something odd about a file, a folder or an example.

    Attributes:
        path: which, as text that can be printed.
        what: what is wrong with it.
        error: whether it cannot be used; else it can, or was meant to be left out.
    """

    path: str
    what: str
    error: bool


@dataclasses.dataclass(frozen=True)
class Tree:
    """The image files below a folder, by their names alone: none has been opened.

    Paths are relative to the root, with slashes.

    Attributes:
        root: the folder.
        files: all that is named as an image, by split; in the order of a hash of the path, which
            is as good as shuffled and the same on every machine.
        faults: why some of these files are not to be opened.
        classes: the names of the class folders of all splits, sorted; an empty one counts.
        unlabelled: the splits in which a file lies outside of the class folders.
        findings: what is odd about all else.
        depth: how many folders above the class folders, not counting the root: 1 with split
            folders, else 0.
    """

    root: Path
    files: dict[str, list[str]]
    faults: dict[str, str]
    classes: tuple[str, ...]
    unlabelled: frozenset[str]
    findings: tuple[Finding, ...]
    depth: int

    def class_of(self, path: str) -> str:
        """The class folder of a file of a split with labels."""
        return path.split("/")[self.depth]


@dataclasses.dataclass
class _Entries:
    """What a walk found, still without a meaning."""

    files: list[str] = dataclasses.field(default_factory=list)
    folders: list[str] = dataclasses.field(default_factory=list)
    faults: dict[str, str] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def note(self, path: str, what: str, *, error: bool = False) -> None:
        self.findings.append(Finding(printable(path), what, error))


def read_tree(root: Path) -> Tree:
    """Reads which images lie in a folder, and to which split and class they belong.

    Args:
        root: `ROOT/LABEL/*`, `ROOT/SPLIT/LABEL/*` or images without labels.

    Returns:
        The tree. Without split folders each class is divided into `train` and `test`, 80:20.

    Raises:
        InputError: no file is named as an image, or split and class folders are mixed.
    """
    entries = _walk(root)
    depth = int(_has_splits(root, entries))
    if depth:
        _leave_out_what_is_in_no_split(entries)
    if not entries.files:
        raise InputError(
            f"{printable(root)} holds 0 images ({', '.join(SUFFIXES)}); 1 or more are needed"
            + "".join(f". {f.path} {f.what}" for f in entries.findings[:1])
        )
    tops = [path.split("/") for path in entries.folders]
    classes = tuple(sorted({top[depth] for top in tops if len(top) == depth + 1}))
    files = _given_splits(entries.files) if depth else _divided(entries.files)
    unlabelled = frozenset(
        split for split, paths in files.items() if any(p.count("/") == depth for p in paths)
    )
    _note_classes(entries, files, classes, unlabelled, depth)
    return Tree(root, files, entries.faults, classes, unlabelled, tuple(entries.findings), depth)


def _walk(root: Path) -> _Entries:
    """All below a folder but what is hidden; no link to a folder is followed."""
    found, real, pending = _Entries(), os.path.realpath(root), [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            found.note(folder.rstrip("/") or ".", f"cannot be listed: {error.strerror}", error=True)
            continue
        for entry in entries:
            if not (entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES):
                pending.extend(_sort_in(found, folder + entry.name, entry, real))
    return found


def _sort_in(found: _Entries, path: str, entry: os.DirEntry[str], root: str) -> Iterator[str]:
    """Notes an entry, and gives it back with a slash if it is a folder to look into."""
    is_image = entry.name.lower().endswith(SUFFIXES)
    if entry.is_dir(follow_symlinks=False):
        if is_image:
            found.note(path, "is a folder, though it is named as an image", error=True)
        else:
            found.folders.append(path)
            yield path + "/"
    elif Path(entry.path).is_dir():
        found.note(path, "is a link to a folder, which is not followed", error=True)
    elif not is_image:
        found.note(path, "is no image by its name")
    else:
        found.files.append(path)
        if not entry.is_file(follow_symlinks=False) and (fault := _fault(entry.path, root)):
            found.faults[path] = fault


def _fault(path: str, root: str) -> str | None:
    """Why a link, or what is neither file nor folder, is not to be opened."""
    target = os.path.realpath(path)
    fault = path_fault(path)
    if fault is None and os.path.commonpath([target, root]) != root:
        return f"is a link to {printable(target)}, outside of the folder"
    return fault


def _has_splits(root: Path, entries: _Entries) -> bool:
    """Whether the images lie in split folders; a class may be called train, but not also test."""
    filled = {path.split("/")[0] for path in entries.files if "/" in path}
    splits = {name for name in filled if name.lower() in SPLITS}
    others = filled - splits
    if splits and others and len({SPLITS[name.lower()] for name in splits}) > 1:
        raise InputError(
            f"{printable(root)} holds images in {printable(', '.join(sorted(splits)))} and in "
            f"{printable(', '.join(sorted(others)))}; only split folders ({', '.join(SPLITS)}) or "
            "only class folders are needed"
        )
    return bool(splits) and not others


def _leave_out_what_is_in_no_split(entries: _Entries) -> None:
    for path in [path for path in entries.files if "/" not in path]:
        entries.faults.pop(path, None)
        entries.note(path, "lies outside of the split folders, and is left out")
    for path in entries.folders:
        if "/" not in path and path.lower() not in SPLITS:
            entries.note(path, "is no split folder and holds no image; it is left out")
    entries.files = [path for path in entries.files if "/" in path]
    entries.folders = [p for p in entries.folders if p.split("/")[0].lower() in SPLITS]


def _given_splits(paths: list[str]) -> dict[str, list[str]]:
    files = defaultdict(list)
    for path in sorted(paths, key=_rank):
        files[SPLITS[path.split("/")[0].lower()]].append(path)
    return dict(sorted(files.items()))


def _divided(paths: list[str]) -> dict[str, list[str]]:
    """Splits each class 80:20, and images that are in no class as if they were of one."""
    labelled = all("/" in path for path in paths)
    groups = defaultdict(list)
    for path in sorted(paths, key=_rank):
        groups[path.split("/")[0] if labelled else ""].append(path)
    files: dict[str, list[str]] = {"test": [], "train": []}
    for group in groups.values():
        count = round(len(group) * _TEST_FRACTION)
        files["test"] += group[:count]
        files["train"] += group[count:]
    return {split: sorted(group, key=_rank) for split, group in files.items() if group}


def _rank(path: str) -> bytes:
    return hashlib.sha256(os.fsencode(path)).digest()


def _note_classes(
    entries: _Entries,
    files: dict[str, list[str]],
    classes: tuple[str, ...],
    unlabelled: frozenset[str],
    depth: int,
) -> None:
    """Notes images outside of the class folders, and classes without images."""
    for split in unlabelled:
        strays = [path for path in files[split] if path.count("/") == depth]
        if len(strays) < len(files[split]):
            entries.note(
                strays[0],
                f"lies outside of the class folders, and so do {len(strays) - 1} more: therefore "
                f"no image of {split} has a label",
            )
    labelled = {split: paths for split, paths in files.items() if split not in unlabelled}
    counts = {s: Counter(p.split("/")[depth] for p in paths) for s, paths in labelled.items()}
    for name in classes if counts else ():
        lacking = [split for split, count in counts.items() if not count[name]]
        if len(lacking) == len(counts):
            entries.note(name, "is a class with 0 images")
        elif depth:
            for split in lacking:
                entries.note(f"{split}/{name}", "is a class with 0 images here and some elsewhere")
