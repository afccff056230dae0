"""Images as people see them, and where in them lies what a network sees."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vision_jax.data.decode import printable
from vision_jax.data.encode import to_pil
from vision_jax.data.resize import Resize, part_seen
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.gallery.lookup import find_indexed
from vision_jax.gallery.origin import entries
from vision_jax.gallery.originals import Originals
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.visual.heatmaps import Box, Map, Scale, overlay
from vision_jax.visual.thumbnails import file_name, file_thumbnail, source_thumbnail

Pixels = UInt8[np.ndarray, "height width channels"]
Picture = UInt8[np.ndarray, "picture_height picture_width colors"]

SIDE = 480
"""Pixels of the longer side at most."""
_TINY = 160  # pixels up to which each of an image's pixels is shown as a square


class Seen(NamedTuple):
    """An image to explain.

    Attributes:
        name: what people know it by.
        pixels: (H, W, C) what the network sees.
        picture: the original, in RGB, reduced to be shown or enlarged by a whole factor.
        box: where in the picture the network's image lies; it may reach beyond.
        tiny: whether the picture is enlarged.
    """

    name: str
    pixels: Pixels
    picture: Image.Image
    box: Box
    tiny: bool

    @property
    def title(self) -> str:
        """The name, without the folder of a file."""
        return file_name(self.name)

    @property
    def sees_all(self) -> bool:
        """Whether the network sees the whole picture."""
        left, top, right, bottom = self.box
        return min(left, top, self.picture.width - right, self.picture.height - bottom) >= -1 and (
            max(left, top, self.picture.width - right, self.picture.height - bottom) <= 1
        )

    def overlay(self, values: Map, scale: Scale) -> Image.Image:
        """Lay a map of the network's image over the picture."""
        return overlay(self.picture, values, scale, box=self.box, smooth=not self.tiny)

    def place(self, region: tuple[float, float, float, float]) -> Box:
        """Find the box in the picture of a box (x0, y0, x1, y1) in the network's image."""
        height, width = self.pixels.shape[:2]
        left, top, right, bottom = self.box
        across, down = (right - left) / width, (bottom - top) / height
        x0, y0, x1, y1 = region
        return (
            round(left + x0 * across),
            round(top + y0 * down),
            round(left + x1 * across),
            round(top + y1 * down),
        )


def seen_files(run: Run, paths: Sequence[str | Path]) -> list[Seen]:
    """Read image files as a run sees them.

    Args:
        run: whose image shape they are brought to.
        paths: the files.

    Raises:
        InputError: a file is unreadable, or cannot be brought to the run's shape.
    """
    pixels = [run.read_images([path])[0] for path in paths]
    pictures = [file_thumbnail(path, side=SIDE).pixels for path in paths]
    names = [printable(path) for path in paths]
    return [seen(run, *one) for one in zip(names, pixels, pictures, strict=True)]


def seen_examples(
    run: Run, source: Source, places: Sequence[int], *, side: int = SIDE
) -> list[Seen]:
    """Read images of a source as a run sees them.

    Args:
        run: whose image shape the source has.
        source: the images.
        places: which of them.
        side: pixels of a picture's longer side at most.

    Raises:
        InputError: an image is unreadable.
    """
    examples = source.read(places)
    return [
        seen(run, source.key(i), example["image"], source_thumbnail(source, i, side=side).pixels)
        for i, example in zip(places, examples, strict=True)
    ]


def seen_indexed(run: Run, index: CosineIndex, keys: Sequence[str]) -> list[Seen]:
    """Read indexed images as the run that made the index sees them.

    Raises:
        InputError: an image is no longer there, or has changed since it was indexed.
    """
    places = find_indexed(index, run, keys)
    rows = {row["key"]: row for _, row in entries(index)}
    originals, found = Originals(index, run.workdir), dict[str, Seen]()
    for key, (source, place) in places.items():
        picture = originals.thumbnail(rows[key], side=SIDE)
        if picture.fault is not None:
            raise InputError(f"{key} {picture.fault}; index the images again")
        pixels = source.read([place])[0]["image"]
        found[key] = seen(run, key, pixels, picture.pixels)
    return [found[key] for key in keys]


def stack(images: Sequence[Seen]) -> UInt8[np.ndarray, "images height width channels"]:
    """Return what the network sees of images, (N, H, W, C)."""
    return np.stack([image.pixels for image in images])


def seen(run: Run, name: str, pixels: Pixels, picture: Picture) -> Seen:
    """Place what a network sees within a picture.

    Args:
        run: whose preparation of images tells the place.
        name: what people know the image by.
        pixels: (H, W, C) uint8, the network's image.
        picture: (height, width, 1 or 3) uint8, the whole picture, reduced or not.
    """
    shown = to_pil(picture).convert("RGB")
    factor = max(1, SIDE // max(shown.size)) if max(shown.size) <= _TINY else 1
    shown = shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    height, width = pixels.shape[:2]
    box = (0.0, 0.0, float(shown.width), float(shown.height))
    if picture.shape[:2] != (height, width):
        box = part_seen(shown.size, (height, width), Resize(*run.config.data.resize))
    left, top, right, bottom = map(round, box)
    return Seen(name, pixels, shown, (left, top, right, bottom), factor > 1)
