"""Read the images that a listing names as a data set, without copying them."""

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from vision_jax.config import Truncated
from vision_jax.data.decode import path_fault, printable
from vision_jax.data.findings import Finding
from vision_jax.data.folder_tree import FILES, Tree, divided, odd_classes, ordered
from vision_jax.data.folders import FolderData, FolderSource
from vision_jax.data.formats import SUFFIXES
from vision_jax.data.listing_file import Entry, Listing, bad_line, is_listing, read_listing
from vision_jax.data.resize import PLAIN, Resize, Size
from vision_jax.data.sources import BadFiles
from vision_jax.data.splits import KNOWN, Part, Splits, canonical
from vision_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class ListingData(FolderData):
    """The images that a listing names.

    With one label an image, it equals a folder in which the same files are sorted by class: the
    same classes, order and splits. With several, all images together are divided into splits.

    Attributes:
        path: the listing.
        entries: its row of each file, by the file's path as the tree has it.
        names: the labels, sorted, where an image may have several; else None.
    """

    path: Path = dataclasses.field(kw_only=True)
    entries: dict[str, Entry] = dataclasses.field(kw_only=True)
    names: tuple[str, ...] | None = dataclasses.field(kw_only=True)

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        image_size: Size | None = None,
        channels: int = 3,
        bad_files: BadFiles = "error",
        links: bool = False,
        truncated: Truncated = "error",
        resize: Resize = PLAIN,
        labels: bool = True,
    ) -> "ListingData":
        """Read a listing; for the arguments see `open_source`.

        Raises:
            InputError: a line of it is not as it should be, or names a file that must not be
                opened.
        """
        listing = read_listing(path)
        entries = _by_file(path, listing)
        if listing.multi_label and labels:
            names = tuple(sorted({label for entry in listing.entries for label in entry.labels}))
            if not names:
                raise InputError(f"{path} gives 0 labels to its images; 1 or more are needed")
        else:
            names = None
        tree = (_flat if not labels else _tree if names is None else _mixed)(path, entries, links)
        if bad_files == "error":
            for file, fault in tree.faults.items():
                raise bad_line(path, entries[file].line, f"{printable(file)} {fault}")
        sizes = {split: len(paths) for split, paths in tree.files.items()}
        options = (image_size, channels, bad_files, truncated, resize)
        return cls(printable(path), sizes, tree, *options, path=path, entries=entries, names=names)

    def source(self, split: str) -> FolderSource:
        """Open a split; see `DataSet.source`.

        Raises:
            InputError: there is no such split, or a file of it is bad.
        """
        source = super().source(split)
        rows = {self.tree.root / file: entry for file, entry in self.entries.items()}
        chosen = [rows[file] for file in source.files]
        columns = tuple(entry.metadata for entry in chosen)
        source = dataclasses.replace(source, name=str(self.path), columns=columns)
        if self.names is None:
            return source
        numbers = {name: number for number, name in enumerate(self.names)}
        several = np.zeros((len(chosen), len(numbers)), bool)
        for row, entry in zip(several, chosen, strict=True):
            row[[numbers[label] for label in entry.labels]] = True
        names = tuple(map(printable, self.names))
        return dataclasses.replace(source, several=several, multi_label_names=names)

    def _unusual_labels(self, splits: Splits, parts: list[list[Part]]) -> list[Finding]:
        """Refuse labels that the listing gives to no training image; see `FolderData`."""
        used = [{part.split for part in of} for of in parts]
        if not self.tree.divided and FILES not in self.sizes:
            trained = {label for row in self._rows(used[0]) for label in row.labels}
            for row in self._rows(used[1] | used[2]):
                if unknown := [label for label in row.labels if label not in trained]:
                    what = f"the label {unknown[0]!r} is in {row.split} and in no image of"
                    raise bad_line(self.path, row.line, f"{what} {splits.train}")
        if self.names is None:
            return super()._unusual_labels(splits, parts)
        found = []
        for use, split in (("trained on", splits.train), ("tested", splits.test)):
            files = [path for _, path in self.select(split)]
            seen = {label for path in files for label in self.entries[path].labels}
            what = f"is a label of 0 images in {split}, and so is not {use}"
            found += [Finding(printable(n), what, False) for n in self.names if n not in seen]
        return found

    def _rows(self, splits: set[str]) -> list[Entry]:
        """Return the rows of some splits, in the listing's order."""
        rows = [self.entries[path] for split in splits for path in self.tree.files[split]]
        return sorted(rows, key=lambda row: row.line)


def _by_file(path: Path, listing: Listing) -> dict[str, Entry]:
    """Return the entries by the paths of their files, relative to the listing's folder."""
    folder, found = _folder(path), dict[str, Entry]()
    for entry in listing.entries:
        file = os.path.normpath(folder / entry.file)
        if PurePath(file).is_relative_to(folder):
            file = os.path.relpath(file, folder)
        if (first := found.setdefault(file, entry)) is not entry:
            what = f"{printable(file)} is listed already, in line {first.line}"
            raise bad_line(path, entry.line, f"{what}; a file may be listed once")
    return found


def _folder(path: Path) -> Path:
    """Return a listing's folder, absolute and without `..`, however the path is written."""
    return Path(os.path.normpath(path.parent.absolute()))


def _tree(path: Path, entries: dict[str, Entry], links: bool) -> Tree:
    """Sort a listing's files by split and class; see `read_tree`."""
    paths = _ordered(path, entries)
    labels = {file: entry.labels[0] for file, entry in entries.items()}
    splits = _splits(path, entries)
    files = _given_splits(paths, splits) if splits else divided(paths, labels)
    tree = Tree(
        path.parent,
        files,
        labels,
        tuple(sorted(set(labels.values()))),
        frozenset(),
        not splits,
        _faults(path.parent, entries, links),
        (),
    )
    return dataclasses.replace(tree, findings=tuple(odd_classes(tree)))


def _mixed(path: Path, entries: dict[str, Entry], links: bool) -> Tree:
    """Sort a listing's files, which may have several labels, by split."""
    paths = _ordered(path, entries)
    splits = _splits(path, entries)
    files = _given_splits(paths, splits) if splits else divided(paths, dict.fromkeys(paths, ""))
    faults = _faults(path.parent, entries, links)
    return Tree(path.parent, files, {}, (), frozenset(files), not splits, faults, ())


def _flat(path: Path, entries: dict[str, Entry], links: bool) -> Tree:
    """Take a listing's files as one split without labels; see `flat_tree`."""
    files = {FILES: _ordered(path, entries)}
    faults = _faults(path.parent, entries, links)
    return Tree(path.parent, files, {}, (), frozenset(files), False, faults, ())


def _ordered(path: Path, entries: dict[str, Entry]) -> list[str]:
    """Sort a listing's files as a folder's are; where all of them lie takes no part in it."""
    if not any(map(os.path.isabs, entries)):
        return ordered(list(entries), _common_folder(entries))
    whole = {str(_folder(path) / file): file for file in entries}
    return [whole[file] for file in ordered(list(whole), _common_folder(whole))]


def _common_folder(paths: Iterable[str]) -> str:
    """Return the folder that all files lie in, with a slash.

    It is empty for files that lie in the listing's folder itself, or in one folder below it. One
    folder elsewhere counts as the only one of its parent.
    """
    folders = {str(PurePath(path).parent) for path in paths}
    common = os.path.commonpath(folders)
    if len(folders) == 1:
        only = PurePath(common)
        common = str(only.parent) if only.is_absolute() else ""
    return f"{common}/" if common not in ("", "/") else common


def _splits(path: Path, entries: dict[str, Entry]) -> dict[str, str]:
    """Return the split of each file; {} where the listing names none."""
    splits = {}
    for file, entry in entries.items():
        if entry.split is None:
            return {}
        if (split := canonical(entry.split)) is None:
            what = f"split is {entry.split!r}; one of {', '.join(KNOWN)} is needed"
            raise bad_line(path, entry.line, what)
        splits[file] = split
    return splits


def _given_splits(paths: list[str], splits: dict[str, str]) -> dict[str, list[str]]:
    files = defaultdict(list)
    for path in paths:
        files[splits[path]].append(path)
    return dict(sorted(files.items()))


def _faults(root: Path, entries: dict[str, Entry], links: bool) -> dict[str, str]:
    """Say which files must not be opened, and why."""
    real = os.path.realpath(root)
    faults = {}
    for file in entries:
        if fault := _fault(root / file, real, links):
            faults[file] = fault
    return faults


def _fault(path: Path, root: str, links: bool) -> str | None:
    if not path.name.lower().endswith(SUFFIXES):
        return f"is not an image by its name ({', '.join(SUFFIXES)})"
    if fault := path_fault(path):
        return fault
    target = os.path.realpath(path)
    if not links and os.path.commonpath([target, root]) != root:
        where = f"at {printable(target)}, outside of the listing's folder"
        return f"is {where}, and is read only if links is True"
    return None


def open_folder(path: Path, **options: Any) -> FolderData:
    """List a folder, or read a listing; for the options see `open_source`."""
    return ListingData.read(path, **options) if is_listing(path) else FolderData.of(path, **options)
