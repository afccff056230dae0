"""Sort the files of a folder of images by split and class, and note what is odd about it."""

import dataclasses
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vision_jax.data.decode import printable
from vision_jax.data.findings import Finding
from vision_jax.data.folder_walk import Entries, walk
from vision_jax.data.formats import SUFFIXES
from vision_jax.data.splits import KNOWN, canonical
from vision_jax.errors import InputError

FILES = "files"
"""The one split of `flat_tree`."""
_TEST_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Tree:
    """The image files below a folder, judged by their names: none has been opened.

    Paths are relative to the root, with slashes.

    Attributes:
        root: the folder.
        files: the files that are images by their names, by split, ordered by a hash of the path:
            as good as shuffled, and the same on every machine.
        labels: the class of every file in a class folder.
        classes: the names of the class folders of all splits, sorted, with those of empty ones.
        unlabelled: the splits in which a file lies outside the class folders.
        divided: whether there are no split folders, so that each class is divided into splits.
        faults: why some of the files must not be opened.
        findings: what is odd about the rest, the folder's structure first.
    """

    root: Path
    files: dict[str, list[str]]
    labels: dict[str, str]
    classes: tuple[str, ...]
    unlabelled: frozenset[str]
    divided: bool
    faults: dict[str, str]
    findings: tuple[Finding, ...]


def read_tree(root: Path, *, links: bool = False) -> Tree:
    """Read which images lie in a folder, and to which split and class they belong.

    Split folders may have any name that `splits.canonical` knows. A folder that merely wraps the
    others, as in an unpacked zip file, is looked through.

    Args:
        root: `ROOT/LABEL/*`, `ROOT/SPLIT/LABEL/*` or images without labels.
        links: whether to follow symbolic links that leave the folder, and links to folders.

    Returns:
        The tree. Without split folders each class is divided into `train` and `test`, 80:20.

    Raises:
        InputError: no file is named as an image, or split and class folders are mixed.
    """
    entries = _images(root, links)
    found: list[Finding] = []
    filled = _Filled.of(entries.files)
    base = _look_through_wrappers(filled)
    if base:
        found.append(_odd(base[:-1], "holds all images; its folders are the splits or classes"))
    folders = _split_folders(root, filled, base, found)
    if folders:
        _leave_out_what_is_in_no_split(entries, base)
        files = _given_splits(entries.files, folders, base)
        bases = {folder: _inner(filled, folder, split) for folder, split in folders.items()}
    else:
        files = _divided(entries.files, base)
        bases = {}
    labels = _labels(entries.files, base, bases)
    parents = set(bases.values() or [base])
    classes = {path.rpartition("/")[2] for path in entries.folders if _parent(path) in parents}
    unlabelled = frozenset(s for s, paths in files.items() if any(p not in labels for p in paths))
    tree = Tree(
        root,
        files,
        labels,
        tuple(sorted(classes)),
        unlabelled,
        not folders,
        entries.faults,
        (),
    )
    found += [*_odd_labels(tree), *odd_classes(tree), *entries.findings]
    return dataclasses.replace(tree, findings=tuple(found))


def flat_tree(root: Path, *, links: bool = False) -> Tree:
    """Read which images lie in a folder, at whatever depth, as one split without labels.

    Args:
        root: the folder.
        links: see `read_tree`.

    Raises:
        InputError: no file is named as an image.
    """
    entries = _images(root, links)
    files = {FILES: ordered(entries.files, "")}
    unlabelled = frozenset(files)
    return Tree(root, files, {}, (), unlabelled, False, entries.faults, tuple(entries.findings))


def _images(root: Path, links: bool) -> Entries:
    """List a folder that holds at least one image."""
    entries = walk(root, links=links)
    if not entries.files:
        raise InputError(
            f"{printable(root)} holds 0 images ({', '.join(SUFFIXES)}); 1 or more are needed"
            + "".join(f". {f.path} {f.what}" for f in entries.findings[:1])
        )
    return entries


class _Filled(NamedTuple):
    """The folders that hold images, by their paths with a slash; the root is empty.

    Attributes:
        folders: the subfolders in which images lie, at whatever depth.
        direct: the folders in which images lie themselves.
    """

    folders: dict[str, set[str]]
    direct: set[str]

    @classmethod
    def of(cls, files: list[str]) -> "_Filled":
        direct = {_parent(path) for path in files}
        folders: dict[str, set[str]] = defaultdict(set)
        for folder in direct:
            while folder:
                parent = _parent(folder[:-1])
                folders[parent].add(folder[len(parent) : -1])
                folder = parent
        return cls(folders, direct)


def _look_through_wrappers(filled: _Filled) -> str:
    """Return the path, with its slash, of the folder whose folders are splits or classes.

    That is the root, unless a chain of single folders leads from it to several folders, or to a
    split folder.
    """
    base = ""
    while base not in filled.direct:
        folders = filled.folders[base]
        if len(folders) > 1 or any(map(canonical, folders)):
            return base
        base += f"{next(iter(folders))}/"
    return ""


def _split_folders(root: Path, filled: _Filled, base: str, found: list[Finding]) -> dict[str, str]:
    """Return the split of each split folder, by its path with a slash; {} if all are classes."""
    folders = sorted(filled.folders[base])
    splits = {name: split for name in folders if (split := canonical(name))}
    others = [name for name in folders if name not in splits]
    shared = _shared_folders(filled, base)
    if splits and others:
        names = printable(", ".join(splits))
        if len(set(splits.values())) > 1 or shared:
            raise InputError(
                f"{printable(root)} holds images in {names} and in {_few(others)}; only split "
                f"folders ({', '.join(KNOWN)}) or only class folders are needed"
            )
        found.append(_odd(base + names, "is named as a split, and is read as a class"))
        return {}
    if not splits:
        if shared:
            what = f"hold the same folders ({_few(shared)}), and are read as classes; splits are "
            what += f"named {', '.join(KNOWN)}, and hold the classes"
            found.append(_odd(base + _few(others), what))
        return {}
    for split, count in Counter(splits.values()).items():
        if count > 1:
            names = " and ".join(name for name in splits if splits[name] == split)
            found.append(_odd(base + names, f"are read together, as {split}"))
    return {f"{base}{name}/": split for name, split in splits.items()}


def _shared_folders(filled: _Filled, base: str) -> list[str]:
    """Return the names of subfolders that several folders share, if none holds images itself."""
    inner = [f"{base}{name}/" for name in filled.folders[base]]
    if len(inner) < 2 or not filled.direct.isdisjoint(inner):
        return []
    counts = Counter(name for folder in inner for name in filled.folders[folder])
    return sorted(name for name, count in counts.items() if count > 1)


def _few(names: list[str]) -> str:
    return printable(", ".join([*names[:5], *(["..."] if len(names) > 5 else [])]))


def _inner(filled: _Filled, folder: str, split: str) -> str:
    """Return the folder within a split folder that holds the classes.

    That is the split folder itself, unless it merely wraps a folder of the same split, as in an
    unpacked zip file.
    """
    if folder in filled.direct or len(filled.folders[folder]) != 1:
        return folder
    (name,) = filled.folders[folder]
    inner = f"{folder}{name}/"
    return folder if canonical(name) != split or inner in filled.direct else inner


def _leave_out_what_is_in_no_split(entries: Entries, base: str) -> None:
    for path in entries.files:
        if _parent(path) == base:
            entries.faults.pop(path, None)
            entries.note(path, "lies outside of the split folders, and is left out")
    for path in entries.folders:
        if _parent(path) == base and not canonical(path[len(base) :]):
            entries.note(path, "is not a split folder and holds no image; it is left out")
    entries.files = [path for path in entries.files if _parent(path) != base]


def _given_splits(paths: list[str], folders: dict[str, str], base: str) -> dict[str, list[str]]:
    files = defaultdict(list)
    for path in ordered(paths, base):
        head = path[len(base) :].partition("/")[0]
        files[folders[f"{base}{head}/"]].append(path)
    return dict(sorted(files.items()))


def _divided(paths: list[str], base: str) -> dict[str, list[str]]:
    """Divide each class 80:20; without class folders, all images as one class."""
    labelled = all("/" in path[len(base) :] for path in paths)
    classes = {path: path[len(base) :].partition("/")[0] if labelled else "" for path in paths}
    return divided(ordered(paths, base), classes)


def divided(paths: list[str], classes: Mapping[str, str]) -> dict[str, list[str]]:
    """Divide each class into `train` and `test`, 80:20.

    Args:
        paths: the files, as `ordered` returns them.
        classes: the class of each.

    Returns:
        The files of each split that has any.
    """
    groups = defaultdict(list)
    for path in paths:
        groups[classes[path]].append(path)
    test = {path for group in groups.values() for path in group[: round(len(group) * _TEST_SHARE)]}
    files = {
        "test": [path for path in paths if path in test],
        "train": [path for path in paths if path not in test],
    }
    return {split: group for split, group in files.items() if group}


def ordered(paths: list[str], base: str) -> list[str]:
    """Sort files by a hash of their path, whatever folder wraps them."""
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path[len(base) :])).digest())


def _labels(paths: list[str], base: str, bases: dict[str, str]) -> dict[str, str]:
    """Return the class of each file in a class folder.

    Args:
        paths: the files.
        base: the folder that holds the split or class folders.
        bases: the folder that holds the class folders, by split folder; {} without split folders.
    """
    labels = {}
    for path in paths:
        head = path[len(base) :].partition("/")[0]
        inner = bases.get(f"{base}{head}/", base)
        name, slash, _ = path[len(inner) :].partition("/")
        if slash:
            labels[path] = name
    return labels


def _parent(path: str) -> str:
    """Return the folder of a path, with a slash; the root is empty."""
    head, slash, _ = path.rpartition("/")
    return head + slash


def _odd(path: str, what: str) -> Finding:
    return Finding(printable(path), what, False)


def _odd_labels(tree: Tree) -> list[Finding]:
    """List the splits that lose their labels to images outside the class folders."""
    found = []
    for split in sorted(tree.unlabelled):
        paths = tree.files[split]
        strays = [path for path in paths if path not in tree.labels]
        if len(strays) < len(paths):
            what = "lies outside of the class folders"
            what += f", and so do {len(strays) - 1} more" if len(strays) > 1 else ""
            found.append(_odd(strays[0], f"{what}: no image of {split} has a label"))
    return found


def odd_classes(tree: Tree) -> list[Finding]:
    """List the classes without images, in all or some of the splits."""
    splits = {split: paths for split, paths in tree.files.items() if split not in tree.unlabelled}
    if not splits:
        return []
    counts = {s: Counter(tree.labels[path] for path in paths) for s, paths in splits.items()}
    found = []
    for name in tree.classes:
        lacking = [split for split, count in counts.items() if not count[name]]
        if len(lacking) == len(counts):
            found.append(_odd(name, "is a class with 0 images"))
        elif not tree.divided:
            what = "is a class with 0 images here and some elsewhere"
            found += [_odd(f"{split}/{name}", what) for split in lacking]
    return found
