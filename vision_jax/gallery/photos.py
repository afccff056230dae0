"""Folders of photographs as people have them: all that can be read is indexed."""

import dataclasses
import hashlib
import os
from pathlib import Path

from vision_jax.data.folders import FolderSource
from vision_jax.errors import InputError
from vision_jax.files import absolute
from vision_jax.gallery.indexing import IndexChange
from vision_jax.gallery.lookup import load_index
from vision_jax.gallery.origin import origin_of
from vision_jax.gallery.writing import write_index
from vision_jax.run.run import Run


@dataclasses.dataclass(frozen=True)
class Photos:
    """A folder that is indexed.

    Attributes:
        source: the photographs.
        index: the file of their index.
        change: what was added, removed, kept and left out.
    """

    source: FolderSource
    index: Path
    change: IndexChange


def index_photos(run: Run, folder: Path, workdir: Path) -> Photos:
    """Index every image below a folder, embedding only what is new or has changed.

    Args:
        run: what embeds them.
        folder: whatever its subfolders are called; files that are no images are left out.
        workdir: where the index goes, under the folder's name.

    Returns:
        The photographs, their index, and what was left out.

    Raises:
        InputError: the folder holds no image that can be read.
    """
    folder = Path(absolute(folder.expanduser()))
    source = run.open_images(str(folder), "files", bad_files="later")
    assert isinstance(source, FolderSource)
    faults = {source.key(i): fault for i, fault in source.faults().items()}
    source = _without(source, set(faults))
    path = _index_path(folder, workdir)
    change = write_index(run, source, path, bad_files="skip")
    faults |= change.skipped
    source = _without(source, set(change.skipped))
    return Photos(source, path, dataclasses.replace(change, skipped=faults))


def _without(source: FolderSource, left_out: set[str]) -> FolderSource:
    """Return a source without some of its images, by their keys.

    Raises:
        InputError: no image remains.
    """
    kept = [i for i in range(len(source)) if source.key(i) not in left_out]
    if not kept:
        raise InputError(
            f"{source.name} holds 0 readable images among {len(source)} files; vision-jax check "
            f"{source.name} lists what is wrong with them"
        )
    return source.take(kept)


def _index_path(folder: Path, workdir: Path) -> Path:
    """Return where a folder's index goes; two folders of one name get different files."""
    name = folder.name or "photos"
    path = workdir / f"{name}.index"
    if not path.exists() or origin_of(load_index(path)).source == str(folder):
        return path
    return workdir / f"{name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]}.index"
