"""A folder of image files as a source; nothing is copied."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from vision_jax.data.decode import BadImageError, printable, read_image
from vision_jax.data.decode_all import Scan, find_bad, warn_of
from vision_jax.data.folder_tree import Finding, Tree, read_tree
from vision_jax.data.sources import BadFiles, Example, Source, check_shape
from vision_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource(Source):
    """Image files below a folder.

    Attributes:
        files: the paths of the images.
        classes: the class of each file, or None without labels.
        size: side to resize and crop to, or None.
        parts: the split of each file.
        skipped: how many bad files were left out; None if they were not looked for.
    """

    files: tuple[Path, ...]
    classes: tuple[int, ...] | None
    size: int | None
    parts: tuple[str, ...]
    skipped: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    def key(self, index: int) -> str:
        """The path of the file at an index, as text that can be printed."""
        return printable(self.files[index])

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Reads examples; see `Source.read`."""
        return [self._read(i) for i in indices]

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """The labels of all examples; see `Source.labels`."""
        return None if self.classes is None else np.array(self.classes, np.int32)

    def digests(self) -> list[str]:
        """A SHA-256 of each file; see `Source.digests`."""
        return [_digest(path) for path in self.files]

    def splits(self) -> list[str]:
        """The split of each file; see `Source.splits`."""
        return list(self.parts)

    def shape(self, index: int) -> tuple[int, int, int]:
        """The shape of an image, which need not be `image_shape`; decodes it."""
        channels = self.image_shape[-1]
        height, width, _ = read_image(self.files[index], channels=channels, size=self.size).shape
        return height, width, channels

    def _read(self, index: int) -> Example:
        path, channels = self.files[index], self.image_shape[-1]
        image = read_image(path, channels=channels, size=self.size)
        check_shape(image, self.image_shape, printable(path))
        if self.classes is None:
            return {"image": image}
        return {"image": image, "label": self.classes[index]}


def open_folder(
    root: Path,
    split: str,
    *,
    image_size: int | None,
    channels: int,
    bad_files: BadFiles = "error",
) -> FolderSource:
    """Opens `ROOT/LABEL/*`, `ROOT/SPLIT/LABEL/*` or images without labels.

    Labels are the sorted names of the class folders of all splits, those of empty ones among them,
    so that neither a split nor a missing file changes the number of a class. The order is that of a
    hash of each relative path: as good as shuffled, so that a slice of a split holds all classes,
    and the same on every machine. What is odd is said in one `DataWarning`.

    Args:
        root: the folder.
        split: tfds's slicing syntax over the split folders; without any, over `train` and `test`,
            which divide each class 80:20. `all` is the whole folder.
        image_size: side to resize and crop to; None wants all images of the first one's size.
        channels: 1 for grey, 3 for RGB.
        bad_files: see `open_source`.

    Returns:
        The source.

    Raises:
        InputError: no image is there, no such split, or a file of it is bad.
    """
    tree = read_tree(root)
    chosen = select_files(tree, split)
    odd = [finding for finding in tree.findings if not finding.error]
    if odd and bad_files != "later":
        warn_of(f"in {printable(root)}", odd, printable(root))
    if bad_files == "error":
        _refuse_faults(tree, chosen)
    skipped = None
    if bad_files == "skip":
        good = _without_bad(tree, chosen, split, image_size, channels)
        skipped, chosen = len(chosen) - len(good), good
    files = tuple(root / path for _, path in chosen)
    parts = tuple(name for name, _ in chosen)
    labelled = not tree.unlabelled.intersection(parts)
    numbers = {name: number for number, name in enumerate(tree.classes)}
    return FolderSource(
        str(root),
        split,
        read_image(files[0], channels=channels, size=image_size).shape,
        tuple(printable(name) for name in tree.classes) if labelled else None,
        files,
        tuple(numbers[tree.class_of(path)] for _, path in chosen) if labelled else None,
        image_size,
        parts,
        skipped,
    )


def _refuse_faults(tree: Tree, chosen: list[tuple[str, str]]) -> None:
    bad = [finding for finding in tree.findings if finding.error]
    bad += [
        Finding(printable(path), tree.faults[path], True)
        for _, path in chosen
        if path in tree.faults
    ]
    if bad:
        more = f", and {len(bad) - 1} more are bad" if len(bad) > 1 else ""
        root = printable(tree.root)
        raise InputError(
            f"{root}/{bad[0].path} {bad[0].what}{more}; vision-jax check {root} lists all, "
            "--data.bad-files skip leaves them out"
        )


def _without_bad(
    tree: Tree, chosen: list[tuple[str, str]], split: str, image_size: int | None, channels: int
) -> list[tuple[str, str]]:
    """The files that can be decoded, with a warning of those that cannot."""
    paths = [path for _, path in chosen if path not in tree.faults]
    files = [tree.root / path for path in paths]
    key = hashlib.sha256(f"{tree.root} {image_size} {channels}".encode(errors="surrogateescape"))
    for file in files:
        status = file.lstat()
        key.update(os.fsencode(file) + b"\0%d %d\n" % (status.st_mtime_ns, status.st_size))
    scan = Scan(
        key.hexdigest(),
        lambda i: read_image(files[i], channels=channels, size=image_size),
        len(files),
        f"{printable(tree.root)} {split}",
    )
    bad = {paths[i]: finding.what for i, finding in find_bad(scan).items()}
    bad |= {path: tree.faults[path] for _, path in chosen if path in tree.faults}
    lost = [finding for finding in tree.findings if finding.error]
    lost += [Finding(printable(path), what, True) for path, what in bad.items()]
    root = printable(tree.root)
    if lost:
        warn_of(f"skipped {len(bad)} of {len(chosen)} files of {root}, {split}", lost, root)
    if len(bad) == len(chosen):
        raise InputError(f"{root} holds 0 readable images at {split!r} among {len(chosen)} files")
    return [(name, path) for name, path in chosen if path not in bad]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadImageError(printable(path), f"cannot be read: {error.strerror}") from error


def select_files(tree: Tree, split: str) -> list[tuple[str, str]]:
    """The files of a slice, each with the name of its split.

    Args:
        tree: the folder.
        split: tfds's slicing syntax.

    Raises:
        InputError: there is no such split, or nothing in it.
    """
    import tensorflow_datasets as tfds

    sizes = {
        name: tfds.core.SplitInfo(
            name=name,
            shard_lengths=[len(paths)],
            num_bytes=0,
            filename_template=None,
        )
        for name, paths in tree.files.items()
    }
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{printable(tree.root)} has nothing at {split!r}; its splits: {', '.join(sizes)}"
        ) from error
    return [
        (part.splitname, path)
        for part in parts
        for path in tree.files[part.splitname][part.from_ : part.to]
    ]
