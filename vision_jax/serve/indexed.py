"""Indexed images as the network and people see them, opened by their keys alone."""

import threading
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.decode import read_image
from vision_jax.data.resize import WITHIN
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.reports.seen import SIDE, Seen, seen
from vision_jax.run.inputs import read_encoded
from vision_jax.run.run import Run
from vision_jax.serve.galleries import Gallery

_WHOLE = 1 << 15  # pixels of a side, more than any picture has


class Found(NamedTuple):
    """An indexed image in the encoder's shape, and the (width, height) of the original."""

    pixels: UInt8[np.ndarray, "height width channels"]
    size: tuple[int, int]


class IndexedImages:
    """Reads indexed images in the shape of the run that made the index.

    A file is read only while its bytes are those that were indexed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakKeyDictionary[Gallery, Any] = weakref.WeakKeyDictionary()

    def read(self, gallery: Gallery, run: Run, row: dict[str, Any]) -> Found:
        """Read an image.

        Raises:
            InputError: it is no longer there, or has changed.
        """
        original = gallery.originals.thumbnail(row, side=_WHOLE)
        if original.fault is not None:
            raise InputError(f"{row['key']} {original.fault}")
        height, width = original.pixels.shape[:2]
        return Found(self._pixels(gallery, run, row["key"]), (width, height))

    def seen(self, gallery: Gallery, run: Run, row: dict[str, Any]) -> Seen:
        """Read an image as people see it, and where in it lies what the network sees.

        Raises:
            InputError: as for `read`.
        """
        picture = gallery.originals.thumbnail(row, side=SIDE)
        if picture.fault is not None:
            raise InputError(f"{row['key']} {picture.fault}")
        pixels = self._pixels(gallery, run, row["key"])
        return seen(run, row["key"], pixels, picture.pixels)

    def _pixels(self, gallery: Gallery, run: Run, key: str) -> np.ndarray:
        if Path(key).is_absolute() and "\\" not in key:
            pixels: np.ndarray = run.read_images([key])[0]
            return pixels
        places = self._places(gallery, run)
        if key not in places:
            raise InputError(f"{key} is no longer there")
        source, place = places[key]
        image: np.ndarray = source.read([place])[0]["image"]
        return image

    def _places(self, gallery: Gallery, run: Run) -> dict[str, tuple[Source, int]]:
        """Where each image is by its key, in the run's shape; listed once."""
        with self._lock:
            if gallery not in self._known:
                sources = [
                    run.open_images(name, split, bad_files="later")
                    for name, split in gallery.origin.sources
                ]
                self._known[gallery] = {
                    source.key(i): (source, i) for source in sources for i in range(len(source))
                }
            places: dict[str, tuple[Source, int]] = self._known[gallery]
            return places


def seen_upload(run: Run, data: bytes) -> Seen:
    """Read an image that was sent as people and the network see it.

    Raises:
        InputError: it is unreadable.
    """
    picture = read_image(data, channels=3, size=SIDE, resize=WITHIN, name="the image")
    return seen(run, "the image", read_encoded(run, data), picture)
