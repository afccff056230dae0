"""Images as people name them: files, folders and data sets, in a run's image shape."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vision_jax.config import BadFiles
from vision_jax.data.catalog import DATA_SETS, path_of
from vision_jax.data.decode import path_fault, printable, read_image
from vision_jax.data.folder_tree import FILES
from vision_jax.data.folders import FolderData
from vision_jax.data.formats import SUFFIXES
from vision_jax.data.sources import Readable, Source, check_shape
from vision_jax.errors import InputError
from vision_jax.run.run import Run


def open_inputs(
    run: Run,
    names: Sequence[str | Path],
    *,
    split: str | None = None,
    bad_files: BadFiles | None = None,
) -> list[Source]:
    """Open files, folders and data sets in a run's image shape.

    Args:
        run: the run.
        names: image files, folders, and names of data sets.
        split: which part of each folder or data set, in tfds's slicing syntax; by default all
            images of a folder, whatever its subfolders are called, and all of a data set.
        bad_files: `error` refuses at once what cannot be an image, and raises when a damaged image
            is read; `skip` gives `Readable` sources, which note what is wrong with an image as they
            read it; by default what the run's config says.

    Returns:
        The sources in the order of the names; files that follow one another share one.

    Raises:
        InputError: there is no such file, folder, data set or split, or `split` is given for a
            file.
    """
    if not names:
        raise InputError("images is empty; files, folders or data sets are needed")
    bad_files = bad_files or run.config.data.bad_files
    sources = list[Source]()
    for files, group in itertools.groupby(names, _is_file):
        if not files:
            sources += [_open(run, name, split, bad_files) for name in group]
            continue
        paths = [Path(name).expanduser() for name in group]
        if split is not None:
            raise InputError(
                f"split is {split!r}; None is needed with a file such as {printable(paths[0])}"
            )
        sources.append(_open_files(run, paths, bad_files))
    return sources


def read_encoded(
    run: Run, data: bytes, *, name: str = "the image"
) -> UInt8[np.ndarray, "height width channels"]:
    """Read an encoded image as `run.read_images` reads a file of these bytes.

    Args:
        run: the run.
        data: the file's bytes.
        name: what to call the image in messages.

    Returns:
        (H, W, C) in the run's shape.

    Raises:
        BadImageError: the image is unreadable, or cannot be brought to the run's shape.
    """
    files = run.open_files([])  # says how files are read
    pixels = read_image(
        data,
        channels=files.image_shape[-1],
        size=files.size,
        resize=files.resize,
        name=name,
        truncated=files.truncated,
    )
    check_shape(pixels, files.image_shape, name)
    return pixels


def _is_file(name: str | Path) -> bool:
    """Whether a name means a file, and neither a folder nor a data set.

    Raises:
        InputError: it means a file that is not there.
    """
    if name in DATA_SETS or path_of(name) is not None:
        return False
    path = Path(name).expanduser()
    if path.exists() or path.is_symlink():
        return True
    if isinstance(name, Path) or "\\" in name or name.lower().endswith(SUFFIXES):
        raise InputError(
            f"images is {printable(name)!r}, which does not exist; a file, a folder or a data set "
            "is needed"
        )
    return False


def _open_files(run: Run, paths: Sequence[Path], bad_files: BadFiles) -> Source:
    source = run.open_files(paths)
    if bad_files == "skip":
        return _readable(source, {})
    for path in paths:
        if fault := path_fault(path):
            raise InputError(f"{printable(path)} {fault}; set bad_files to skip to leave it out")
    return source


def _open(run: Run, name: str | Path, split: str | None, bad_files: BadFiles) -> Source:
    if split is None:
        split = "all" if path_of(name) is None else FILES
    if bad_files == "error":
        return run.open_images(name, split, bad_files=bad_files)
    data = run.open_data(name, labels=split != FILES, bad_files="later")
    source = data.source(split)
    chosen = data.select(split) if isinstance(data, FolderData) else []
    faults = data.tree.faults if isinstance(data, FolderData) else {}
    known = {i: faults[path] for i, (_, path) in enumerate(chosen) if path in faults}
    return _readable(source, known)


def _readable(source: Source, faults: dict[int, str]) -> Readable:
    readable = Readable.of(source, range(len(source)))
    assert isinstance(readable, Readable)
    readable.faults.update(faults)
    return readable
