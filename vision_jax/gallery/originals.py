"""The original pictures of indexed images, opened when they are looked at."""

import contextlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vision_jax.data.catalog import open_source
from vision_jax.data.decode import BadImageError
from vision_jax.data.folders import FolderSource
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.files import sha256_of
from vision_jax.gallery.origin import origin_of
from vision_jax.run.workdir import read_config
from vision_jax.search import CosineIndex
from vision_jax.visual.thumbnails import (
    SIDE,
    Thumbnail,
    file_thumbnail,
    placeholder,
    source_thumbnail,
)


class Originals:
    """The images that an index is of, as they were before they were brought to a network's size.

    Nothing is opened before a picture is asked for, and none is kept. Neither the network nor a
    device is used.

    Args:
        index: an index that `vision-jax index` or `build_index` made.
        workdir: the folder of the run that made it, if it has moved since; a prepared data set is
            looked for where that run looked for it.
    """

    def __init__(self, index: CosineIndex, workdir: str | Path | None = None) -> None:
        self._origin = origin_of(index)
        self._workdir = Path(workdir or self._origin.workdir)

    def thumbnail(self, row: dict[str, Any], *, side: int = SIDE) -> Thumbnail:
        """Read the original of an indexed image.

        Args:
            row: the image's metadata, as `index.metadata` returns it.
            side: pixels of the longer side at most; a smaller image keeps its size.

        Returns:
            The picture; a placeholder if it is no longer there. The fault of a file that has
            changed since it was indexed says so.
        """
        key = row["key"]
        if Path(key).is_absolute():  # a folder need not be listed to open one of its files
            found = file_thumbnail(key, side=side)
            if found.fault is None:
                return found._replace(fault=_change(key, row.get("digest")))
            if "\\" not in key:  # nothing in it is escaped, see `printable`
                return found
        try:
            places = self._places
        except (InputError, OSError) as error:
            return placeholder(f"cannot be found: {error}")
        if key not in places:
            return placeholder("is no longer there")
        source, place = places[key]
        found = source_thumbnail(source, place, side=side)
        if found.fault is None and isinstance(source, FolderSource):
            return found._replace(fault=_change(source.files[place], row.get("digest")))
        return found

    def thumbnails(self, rows: Sequence[dict[str, Any]], *, side: int = SIDE) -> list[Thumbnail]:
        """Read the originals of some indexed images; see `thumbnail`."""
        return [self.thumbnail(row, side=side) for row in rows]

    @cached_property
    def _places(self) -> dict[str, tuple[Source, int]]:
        """Where each image is, by its key."""
        data_dir = None
        with contextlib.suppress(InputError):  # the run is gone; the data may be at the usual place
            data_dir = read_config(self._workdir).data.data_dir
        # Only originals are read: no image is ever brought to the size.
        sources = [
            open_source(name, split, data_dir=data_dir, image_size=1, bad_files="later")
            for name, split in self._origin.sources
        ]
        return {source.key(i): (source, i) for source in sources for i in range(len(source))}


def _change(path: str | Path, digest: str | None) -> str | None:
    """Say whether a file is another than the one of that digest."""
    with contextlib.suppress(OSError, BadImageError):
        if digest is not None and sha256_of(Path(path)) != digest:
            return "has changed since it was indexed"
    return None
