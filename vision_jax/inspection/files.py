"""Opening a data set of any image size, and what the headers of its files say."""

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vision_jax.bars import tqdm
from vision_jax.data.catalog import open_data
from vision_jax.data.decode import BadImageError, path_fault, read_image, upright_size
from vision_jax.data.folders import FolderData, FolderSource
from vision_jax.data.formats import FORMATS, UnusableError, kind_of, open_image
from vision_jax.data.pillow_warnings import pillow_warnings_ignored
from vision_jax.data.records import TfdsSource
from vision_jax.data.resize import Size, sides
from vision_jax.data.sources import Concatenated, Source
from vision_jax.errors import InputError

_GREY = ("1", "L", "LA", "I", "I;16", "I;16B")
_MAX_DEFAULT_SIZE = 224

Header = tuple[tuple[int, int], tuple[str, str]]
"""The (width, height) and the (format, mode) of an image file."""


@dataclasses.dataclass(frozen=True)
class Files:
    """What the headers of image files say.

    Attributes:
        sizes: how many images have each (width, height), upright.
        kinds: how many have each (format, mode), such as ("PNG", "RGB").
    """

    sizes: Counter[tuple[int, int]]
    kinds: Counter[tuple[str, str]]

    @property
    def is_grey(self) -> bool:
        """Whether no image has a colour."""
        return bool(self.kinds) and all(mode in _GREY for _, mode in self.kinds)


def open_splits(
    name: str | os.PathLike[str],
    splits: Sequence[str] = ("all",),
    *,
    image_size: Size | None = None,
    channels: int | None = None,
    **options: Any,
) -> tuple[Source, Files]:
    """Open the splits of a data set or folder, whatever the sizes of its images.

    Args:
        name: as in `open_source`.
        splits: one or several, in tfds's slicing syntax; `all` stands for every named split.
        image_size: what images are brought to, a side or (height, width); by default the images'
            own size or, if they have many, their median shorter side, at most 224.
        channels: 1 for grey, 3 for RGB; by default the set's own, and for a folder grey if all its
            images are, else RGB.
        **options: the other options of `open_source`.

    Returns:
        (source, files): the splits one after the other, and what the headers of their files say.

    Raises:
        InputError: there is no such data set, folder or split, or a file is no image.
    """
    if not splits:
        raise InputError("splits is (); one or several are needed, such as train or all")
    with advice_on_bad_files():
        # Headers are read whatever the size, but opening needs one where a set has many.
        size = 1 if image_size is None else image_size
        data = open_data(name, image_size=size, channels=channels, **options)
        if isinstance(data, FolderData):
            source: Source = data.source("+".join(splits))
        else:  # whose keys name the split
            named = [split for split, count in data.sizes.items() if count]
            names = named if tuple(splits) == ("all",) else splits
            source = Concatenated.of([data.source(split) for split in names])
        files = read_files(source)
        if image_size is None and len(files.sizes) > 1:
            shorter = np.repeat([min(size) for size in files.sizes], list(files.sizes.values()))
            image_size = min(int(np.median(shorter)), _MAX_DEFAULT_SIZE)
        if channels is None and files.is_grey:
            channels = 1
        return _resized(source, image_size, channels or source.image_shape[-1]), files


def count_skipped(source: Source) -> int:
    """Count the bad files that were left out of a source."""
    parts = source.parts if isinstance(source, Concatenated) else [source]
    return sum(part.skipped or 0 for part in parts)


def read_files(source: Source) -> Files:
    """Read the headers of a source's image files, with a progress bar if it takes some seconds.

    Args:
        source: a folder or data set, or several of them; arrays have no files, only sizes.

    Returns:
        A `Files`.

    Raises:
        InputError: some files are no images of a known format; names the first and counts them.
    """
    sizes, kinds = Counter[tuple[int, int]](), Counter[tuple[str, str]]()
    bad: list[BadImageError] = []
    with tqdm(total=len(source), desc="headers", unit="img", delay=2, leave=False) as bar:
        for part in source.parts if isinstance(source, Concatenated) else [source]:
            stored = _stored(part)
            if stored is None:
                height, width, _ = part.image_shape
                sizes[width, height] += len(part)
                bar.update(len(part))
                continue
            for index, file in enumerate(stored):
                try:
                    size, kind = _read_header(file, part.key(index))
                except BadImageError as error:
                    bad.append(error)
                else:
                    sizes[size] += 1
                    kinds[kind] += 1
                bar.update()
    if len(bad) > 1:
        raise BadImageError(bad[0].name, f"{bad[0].reason}; {len(bad) - 1} more files are bad")
    if bad:
        raise bad[0]
    return Files(sizes, kinds)


@contextlib.contextmanager
def advice_on_bad_files() -> Iterator[None]:
    """Add what to do about it to the error for a bad image."""
    try:
        yield
    except BadImageError as error:
        raise InputError(f"{error}; set bad_files to skip to leave bad files out") from error


def _resized(source: Source, size: Size | None, channels: int) -> Source:
    """Return the same images in another shape, without looking for them again.

    Args:
        source: what `open_source` returned, or several of them.
        size: side to resize and crop to; None for the images' own size, which all have.
        channels: 1 for grey, 3 for RGB.
    """
    if isinstance(source, Concatenated):
        return Concatenated.of([_resized(part, size, channels) for part in source.parts])
    assert isinstance(source, FolderSource | TfdsSource)
    stored = _stored(source)
    assert stored is not None
    if size is None:
        shape = read_image(
            next(stored), channels=channels, name=source.key(0), truncated=source.truncated
        ).shape
    else:
        shape = (*sides(size), channels)
    return dataclasses.replace(source, size=size, image_shape=shape)


def _stored(source: Source) -> Iterator[Path | bytes] | None:
    """Return the image files of a source as they are stored; None if it has none."""
    if isinstance(source, FolderSource):
        return iter(source.files)
    if isinstance(source, TfdsSource):
        return source.encoded()
    return None


def _read_header(file: Path | bytes, name: str) -> Header:
    if isinstance(file, Path) and (reason := path_fault(file)):
        raise BadImageError(name, reason)
    try:
        return _open_header(file)
    except UnidentifiedImageError:
        known = ", ".join((*FORMATS, "HEIF"))
        raise BadImageError(name, f"is not a readable image ({known})") from None
    except (UnusableError, Image.DecompressionBombError) as error:
        raise BadImageError(name, str(error)) from None
    except MemoryError:
        raise
    except Exception as error:  # the decoders raise many kinds for damaged files
        what = str(error) or type(error).__name__
        raise BadImageError(name, f"is not a readable image: {what}") from error


def _open_header(file: Path | bytes) -> Header:
    # Images of too many pixels are refused when they are decoded.
    with pillow_warnings_ignored(), open_image(file) as image:
        return upright_size(image), (kind_of(image), image.mode)
