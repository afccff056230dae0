"""Read a folder of image files as a data set, without copying it."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from vision_jax.config import Truncated
from vision_jax.data.data_set import DataSet
from vision_jax.data.decode import BadImageError, path_fault, printable, read_image
from vision_jax.data.decode_all import Scan, find_bad, look_at_all
from vision_jax.data.exif import Details, photo_details
from vision_jax.data.findings import Finding, warn_of
from vision_jax.data.folder_tree import Tree, flat_tree, read_tree
from vision_jax.data.listing_file import is_listing
from vision_jax.data.resize import PLAIN, WITHIN, Resize, Size, sides
from vision_jax.data.sources import BadFiles, Example, Source, check_shape
from vision_jax.data.splits import Part, Splits, parts_of
from vision_jax.errors import InputError
from vision_jax.files import sha256_of


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource(Source):
    """Image files below a folder.

    Attributes:
        files: the paths of the images.
        classes: the class of each file, or None without labels.
        size: what images are brought to, see `read_image`, or None.
        parts: the split of each file.
        skipped: number of bad files left out; None if they were not looked for.
        truncated: see `read_image`.
        resize: see `read_image`.
        several: (N, labels) bool, which labels each file has where they may be several.
        columns: what a listing says of each file besides its label; empty for a folder.
    """

    files: tuple[Path, ...]
    classes: tuple[int, ...] | None
    size: Size | None
    parts: tuple[str, ...]
    skipped: int | None = None
    truncated: Truncated = "error"
    resize: Resize = PLAIN
    several: Bool[np.ndarray, "examples labels"] | None = None
    columns: tuple[Details, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def root(self) -> Path:
        """The folder, or the one that the listing lies in."""
        path = Path(self.name)
        return path.parent if is_listing(path) else path

    def take(self, places: Sequence[int]) -> "FolderSource":
        """Choose examples; see `Source.take`."""
        chosen = list(places)
        return dataclasses.replace(
            self,
            files=tuple(self.files[i] for i in chosen),
            classes=self.classes and tuple(self.classes[i] for i in chosen),
            parts=tuple(self.parts[i] for i in chosen),
            several=None if self.several is None else self.several[chosen],
            columns=self.columns and tuple(self.columns[i] for i in chosen),
        )

    def faults(self) -> dict[int, str]:
        """Say of each file that cannot be opened why, by index, without opening any."""
        found = {i: _fault(file) for i, file in enumerate(self.files)}
        return {i: fault for i, fault in found.items() if fault}

    def key(self, index: int) -> str:
        """Return the path of the file at an index, as text that can be printed."""
        return printable(self.files[index])

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples; see `Source.read`."""
        return [self._read(i) for i in indices]

    def picture(self, index: int, *, side: int) -> UInt8[np.ndarray, "height width channels"]:
        """Read an image as its file has it, for people; see `Source.picture`."""
        file, truncated = self.files[index], self.truncated
        return read_image(file, channels=3, size=side, resize=WITHIN, truncated=truncated)

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """Return the labels of all examples; see `Source.labels`."""
        return None if self.classes is None else np.array(self.classes, np.int32)

    def multi_hot(self) -> Bool[np.ndarray, "examples labels"] | None:
        """Return which labels each file has; see `Source.multi_hot`."""
        return self.several

    def digests(self) -> list[str]:
        """Return a SHA-256 of each file; see `Source.digests`."""
        return look_at_all(lambda i: _digest(self.files[i]), len(self.files), self.name)

    def splits(self) -> list[str]:
        """Return the split of each file; see `Source.splits`."""
        return list(self.parts)

    def details(self) -> list[Details]:
        """Return what each file's EXIF data, folder and date say.

        Returns:
            `taken`, `camera`, `latitude` and `longitude` as `photo_details` reads them; `folder`,
            the file's, below the root; `modified`, local date and time of its last change; and
            the other columns of a listing, which replace those of the same name.
        """
        return look_at_all(self._details, len(self.files), self.name)

    def _details(self, index: int) -> Details:
        file = self.files[index]
        details = photo_details(file)
        details["folder"] = printable(os.path.relpath(file.parent, self.root))
        with contextlib.suppress(OSError, OverflowError, ValueError):
            changed = datetime.fromtimestamp(int(file.stat().st_mtime))
            details["modified"] = changed.isoformat()
        return details | (self.columns[index] if self.columns else {})

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return the shape of an image, which need not be `image_shape`; decodes it."""
        height, width, _ = self._pixels(index).shape
        return height, width, self.image_shape[-1]

    def _read(self, index: int) -> Example:
        image = self._pixels(index)
        check_shape(image, self.image_shape, self.key(index))
        if self.several is not None:
            return {"image": image, "labels": self.several[index]}
        if self.classes is None:
            return {"image": image}
        return {"image": image, "label": self.classes[index]}

    def _pixels(self, index: int) -> np.ndarray:
        return read_image(
            self.files[index],
            channels=self.image_shape[-1],
            size=self.size,
            resize=self.resize,
            truncated=self.truncated,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class FolderData(DataSet):
    """A folder of images.

    Labels are the sorted names of the class folders of all splits, empty ones included, so neither
    the split nor a missing file changes a class's number. Files are ordered by a hash of their
    relative paths: as good as shuffled, so a slice of a split holds all classes, and the same on
    every machine.

    Attributes:
        tree: what lies in the folder.
        size: what images are brought to, see `read_image`; None takes images that have one size.
        channels: 1 for grey, 3 for RGB.
        bad_files: see `open_source`.
        truncated: see `read_image`.
    """

    tree: Tree
    size: Size | None
    channels: int
    bad_files: BadFiles
    truncated: Truncated
    resize: Resize = PLAIN

    @classmethod
    def of(
        cls,
        root: Path,
        *,
        image_size: Size | None = None,
        channels: int = 3,
        bad_files: BadFiles = "error",
        links: bool = False,
        truncated: Truncated = "error",
        resize: Resize = PLAIN,
        labels: bool = True,
    ) -> "FolderData":
        """List a folder; for the arguments see `open_source`.

        Raises:
            InputError: it holds no image, mixes split and class folders, or a folder in it cannot
                be read.
        """
        tree = (read_tree if labels else flat_tree)(root, links=links)
        if bad_files == "error":
            _refuse([finding for finding in tree.findings if finding.error], printable(root))
        sizes = {split: len(paths) for split, paths in tree.files.items()}
        return cls(printable(root), sizes, tree, image_size, channels, bad_files, truncated, resize)

    def select(self, split: str) -> list[tuple[str, str]]:
        """Return the files of a slice, each as its split's name and its path below the root.

        Raises:
            InputError: there is no such split, or it is empty.
        """
        return [
            (part.split, path)
            for part in parts_of(self.sizes, split, self.name)
            for path in self.tree.files[part.split][part.start : part.stop]
        ]

    def source(self, split: str) -> FolderSource:
        """Open a split; see `DataSet.source`. Warns of what is odd about the folder.

        Raises:
            InputError: there is no such split, or a file of it is bad.
        """
        tree, chosen = self.tree, self.select(split)
        odd = [finding for finding in tree.findings if not finding.error]
        if odd and self.bad_files != "later":
            warn_of(f"in {self.name}", odd, self.name)
        if self.bad_files == "error":
            _refuse(self.faults(chosen), self.name)
        skipped = None
        if self.bad_files == "skip":
            good = self._without_bad(chosen, split)
            skipped, chosen = len(chosen) - len(good), good
        files = tuple(tree.root / path for _, path in chosen)
        parts = tuple(name for name, _ in chosen)
        labelled = not tree.unlabelled.intersection(parts)
        numbers = {name: number for number, name in enumerate(tree.classes)}
        return FolderSource(
            str(tree.root),
            split,
            self._shape(files[0]),
            tuple(printable(name) for name in tree.classes) if labelled else None,
            files,
            tuple(numbers[tree.labels[path]] for _, path in chosen) if labelled else None,
            self.size,
            parts,
            skipped,
            self.truncated,
            self.resize,
        )

    def _shape(self, file: Path) -> tuple[int, int, int]:
        if self.size is not None and self.bad_files == "later":
            return (*sides(self.size), self.channels)
        height, width, channels = self._read(file).shape
        return height, width, channels

    def _read(self, file: Path) -> np.ndarray:
        return read_image(
            file,
            channels=self.channels,
            size=self.size,
            resize=self.resize,
            truncated=self.truncated,
        )

    def _unusual_labels(self, splits: Splits, parts: list[list[Part]]) -> list[Finding]:
        """List splits that lack labels, a single class, and classes not trained on or tested."""
        tree, found = self.tree, []
        used = [{part.split for part in of} for of in parts]
        if used[0] & tree.unlabelled:
            return []
        for split, names in zip(splits[1:], used[1:], strict=True):
            if names & tree.unlabelled:
                what = f"has no labels, though {splits.train} has: it cannot be evaluated"
                found.append(Finding(split, what, False))
        if len(tree.classes) == 1:
            what = f"has one class, {printable(tree.classes[0])}; recognition takes two or more"
            found.append(Finding(".", what, False))
        uses = (("trained on", splits.train, used[0]), ("tested", splits.test, used[2]))
        for use, split, names in uses:
            if names & tree.unlabelled:
                continue
            # A class that lacks a given split altogether is among the tree's findings.
            all_of = tree.files if tree.divided else names
            known = {tree.labels[path] for name in all_of for path in tree.files[name]}
            seen = {tree.labels[path] for _, path in self.select(split)}
            what = f"is a class with 0 images in {split}, and so is not {use}"
            found += [Finding(printable(name), what, False) for name in sorted(known - seen)]
        return found

    def faults(self, chosen: list[tuple[str, str]]) -> list[Finding]:
        """List the chosen files that must not be opened."""
        faults = self.tree.faults
        return [
            Finding(printable(path), faults[path], True) for _, path in chosen if path in faults
        ]

    def _without_bad(self, chosen: list[tuple[str, str]], split: str) -> list[tuple[str, str]]:
        """Return the files that can be decoded, with a warning of those that cannot."""
        tree, name = self.tree, self.name
        paths = [path for _, path in chosen if path not in tree.faults]
        files = [tree.root / path for path in paths]
        options = f"{self.size} {self.channels} {self.truncated}"
        key = hashlib.sha256(f"{tree.root} {options}".encode(errors="surrogateescape"))
        for file in files:
            with contextlib.suppress(OSError):  # what is gone by now is found by the scan
                status = file.stat()
                key.update(os.fsencode(file) + b"\0%d %d\n" % (status.st_mtime_ns, status.st_size))
        scan = Scan(
            key.hexdigest(),
            lambda i: self._read(files[i]),
            len(files),
            f"{name} {split}",
        )
        bad = {paths[i]: finding.what for i, finding in find_bad(scan).items()}
        bad |= {path: tree.faults[path] for _, path in chosen if path in tree.faults}
        lost = [finding for finding in tree.findings if finding.error]
        lost += [Finding(printable(path), what, True) for path, what in bad.items()]
        if lost:
            warn_of(f"skipped {len(bad)} of {len(chosen)} files of {name}, {split}", lost, name)
        if len(bad) == len(chosen):
            raise InputError(
                f"{name} holds 0 readable images at {split!r} among {len(chosen)} files"
            )
        return [(part, path) for part, path in chosen if path not in bad]


def _refuse(bad: list[Finding], name: str) -> None:
    if bad:
        more = f", and {len(bad) - 1} more are bad" if len(bad) > 1 else ""
        raise InputError(
            f"{name}/{bad[0].path} {bad[0].what}{more}; vision-jax check {name} lists all; "
            "set bad_files to skip to leave them out"
        )


def _fault(file: Path) -> str | None:
    if fault := path_fault(file):
        return fault
    return None if os.access(file, os.R_OK) else "cannot be read: permission denied"


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise BadImageError(printable(path), f"cannot be read: {error.strerror}") from error
