"""A folder of image files as a source; nothing is copied."""

import dataclasses
import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from vision_jax.data.decode import SUFFIXES, read_image
from vision_jax.data.sources import Example, Source, check_shape
from vision_jax.errors import InputError

SPLITS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
_TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource(Source):
    """Image files below a folder.

    Attributes:
        files: the paths of the images.
        classes: the class of each file, or None without labels.
        size: side to resize and crop to, or None.
        parts: the split of each file.
    """

    files: tuple[Path, ...]
    classes: tuple[int, ...] | None
    size: int | None
    parts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def key(self, index: int) -> str:
        """The path of the file at an index."""
        return str(self.files[index])

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Reads examples; see `Source.read`."""
        return [self._read(i) for i in indices]

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """The labels of all examples; see `Source.labels`."""
        return None if self.classes is None else np.array(self.classes, np.int32)

    def digests(self) -> list[str]:
        """A SHA-256 of each file; see `Source.digests`."""
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files]

    def splits(self) -> list[str]:
        """The split of each file; see `Source.splits`."""
        return list(self.parts)

    def _read(self, index: int) -> Example:
        path, channels = self.files[index], self.image_shape[-1]
        image = read_image(path, channels=channels, size=self.size)
        check_shape(image, self.image_shape, str(path))
        if self.classes is None:
            return {"image": image}
        return {"image": image, "label": self.classes[index]}


def open_folder(root: Path, split: str, *, image_size: int | None, channels: int) -> FolderSource:
    """Opens `ROOT/LABEL/*`, `ROOT/SPLIT/LABEL/*` or images without labels.

    The order is that of a hash of each relative path: as good as shuffled, so that a slice of a
    split holds all classes, and the same on every machine.

    Args:
        root: the folder.
        split: tfds's slicing syntax over the split folders; without any, over `train` and `test`,
            which divide each class 80:20. `all` is the whole folder.
        image_size: side to resize and crop to; None wants all images of the first one's size.
        channels: 1 for grey, 3 for RGB.

    Returns:
        The source.

    Raises:
        InputError: no image is there, or no such split.
    """
    tree, has_split_folders = _find_splits(root)
    everything = [path for paths in tree.values() for path in paths]
    if not everything:
        raise InputError(f"{root} holds 0 images ({', '.join(SUFFIXES)}); 1 or more are needed")
    chosen = _select(root, tree, split)
    files = tuple(path for _, path in chosen)
    # A label is the folder between the split, if any, and the file.
    depth = len(root.parts) + has_split_folders
    labelled = all(len(path.parts) > depth + 1 for path in everything)
    names = sorted({path.parts[depth] for path in everything}) if labelled else []
    numbers = {name: number for number, name in enumerate(names)}
    classes = tuple(numbers[path.parts[depth]] for path in files) if labelled else None
    shape = read_image(files[0], channels=channels, size=image_size).shape
    label_names = tuple(names) if labelled else None
    parts = tuple(name for name, _ in chosen)
    return FolderSource(str(root), split, shape, label_names, files, classes, image_size, parts)


def _find_splits(root: Path) -> tuple[dict[str, list[Path]], bool]:
    """The images by split, and whether the folder itself is divided into splits."""
    folders = [entry for entry in root.iterdir() if entry.is_dir()]
    if folders and all(folder.name.lower() in SPLITS for folder in folders):
        return {SPLITS[f.name.lower()]: _find_images(f, root) for f in sorted(folders)}, True
    parents = defaultdict(list)
    for path in _find_images(root, root):
        parents[path.parent].append(path)
    tree: dict[str, list[Path]] = {"train": [], "test": []}
    for paths in parents.values():
        count = round(len(paths) * _TEST_FRACTION)
        tree["test"] += paths[:count]
        tree["train"] += paths[count:]
    return {name: sorted(paths, key=partial(_rank, root)) for name, paths in tree.items()}, False


def _find_images(folder: Path, root: Path) -> list[Path]:
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    return sorted(found, key=partial(_rank, root))


def _rank(root: Path, path: Path) -> bytes:
    return hashlib.sha256(os.fsencode(path.relative_to(root).as_posix())).digest()


def _select(root: Path, tree: dict[str, list[Path]], split: str) -> list[tuple[str, Path]]:
    """The files of a slice, each with the name of its split."""
    import tensorflow_datasets as tfds

    sizes = {
        name: tfds.core.SplitInfo(
            name=name,
            shard_lengths=[len(paths)],
            num_bytes=0,
            filename_template=None,
        )
        for name, paths in tree.items()
        if paths
    }
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{root} has nothing at {split!r}; its splits: {', '.join(sizes)}"
        ) from error
    return [
        (part.splitname, path)
        for part in parts
        for path in tree[part.splitname][part.from_ : part.to]
    ]
