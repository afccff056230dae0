"""What a photograph's EXIF data say of when, with what and where it was taken.

Exchangeable image file format, version 2.32 (CIPA DC-008, 2019). Cameras, phones and programs write
it with every imaginable fault; what cannot be understood counts as missing.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from vision_jax.data.formats import kind_of, open_image
from vision_jax.data.pillow_warnings import pillow_warnings_ignored

Details = dict[str, str | int | float]
"""Filterable facts about an image, by name."""

_TAKEN = (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized)
_DATE = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_LONGEST = 100  # characters of a camera's name


def photo_details(path: str | os.PathLike[str]) -> Details:
    """Read when, with what and where a photograph was taken.

    Never raises: what is missing or damaged, in a file that may be no image at all, is left out.

    Args:
        path: an image file; its pixels are not decoded.

    Returns:
        As far as they are there: `taken`, the local date and time, such as `2024-05-17T14:03:22`;
        `camera`, make and model; `latitude` and `longitude` in degrees, north and east positive,
        to 6 decimals (0.1 m). A place of exactly 0, 0 is what devices write that know none.
    """
    # Pillow's parsers raise whatever the bytes lead them to: struct.error, SyntaxError, TypeError …
    with contextlib.suppress(Exception), pillow_warnings_ignored(), open_image(path) as image:
        exif = _exif(image)
        details: Details = {}
        for read in (_taken, _camera, _place):
            with contextlib.suppress(Exception):  # one that is damaged leaves the others
                details.update(read(exif))
        return details
    return {}


def _exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF data that stand before the pixels, which `getexif` might decode."""
    if kind_of(image) == "TIFF":
        return image.getexif()
    exif = Image.Exif()
    if data := image.info.get("exif"):
        exif.load(data)
    return exif


def _taken(exif: Image.Exif) -> Iterator[tuple[str, str]]:
    tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    for tag in _TAKEN:
        found = _DATE.match(_text(tags.get(tag)))
        with contextlib.suppress(ValueError):  # such as month 0, where a clock was never set
            if found:
                iso = "{}-{}-{}T{}:{}:{}".format(*found.groups("00"))
                yield "taken", datetime.fromisoformat(iso).isoformat()
                return


def _camera(exif: Image.Exif) -> Iterator[tuple[str, str]]:
    make, model = (_text(exif.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    brand = make.partition(" ")[0].lower()
    named = brand and model.lower().startswith(brand)  # as in Canon, Canon EOS 5D
    if name := model if named else f"{make} {model}".strip():
        yield "camera", name


def _place(exif: Image.Exif) -> Iterator[tuple[str, float]]:
    tags = exif.get_ifd(ExifTags.IFD.GPSInfo)
    latitude = _degrees(tags[ExifTags.GPS.GPSLatitude], 90)
    longitude = _degrees(tags[ExifTags.GPS.GPSLongitude], 180)
    # Without these letters the hemisphere is unknown; the lookup raises.
    south = {"N": 1, "S": -1}[_text(tags[ExifTags.GPS.GPSLatitudeRef])[:1].upper()]
    west = {"E": 1, "W": -1}[_text(tags[ExifTags.GPS.GPSLongitudeRef])[:1].upper()]
    if latitude or longitude:
        yield "latitude", round(south * latitude, 6)
        yield "longitude", round(west * longitude, 6)


def _degrees(parts: Any, most: int) -> float:
    """Add degrees, minutes and seconds up.

    Raises:
        ValueError: they are no angle up to `most` degrees.
    """
    degrees, minutes, seconds = (*map(float, parts), 0.0, 0.0)[:3]
    total = degrees + minutes / 60 + seconds / 3600
    sound = min(degrees, minutes, seconds) >= 0 and max(minutes, seconds) <= 60
    if len(parts) > 3 or not sound or not math.isfinite(total) or total > most:
        raise ValueError(f"{parts} is no angle up to {most} degrees")
    return total


def _text(value: Any) -> str:
    """Return what comes before the first NUL, on one line."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        return ""
    text = " ".join(value.partition("\0")[0].split())
    return "".join(filter(str.isprintable, text))[:_LONGEST].strip()
