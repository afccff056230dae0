"""Image formats: which there are, and how files are opened."""

import io
import os
from pathlib import Path

from PIL import Image, JpegImagePlugin, UnidentifiedImageError

try:
    from PIL import AvifImagePlugin

    _AVIF = bool(AvifImagePlugin.SUPPORTED)
except ImportError:  # before Pillow 11.3
    _AVIF = False

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", *(("AVIF",) if _AVIF else ()))
"""Formats that Pillow opens; pillow-heif opens HEIC."""
KINDS = {
    **{".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"},
    **{".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF"},
    **{".heic": "HEIF", ".heif": "HEIF"},
}
"""The format of each suffix; whatever is installed, so that a folder has the same splits
everywhere."""
SUFFIXES = tuple(KINDS)
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))


class UnusableError(Exception):
    """An image that is known to be unusable; the message says why."""


def open_image(file: str | os.PathLike[str] | bytes) -> Image.Image:
    """Open an image file without decoding its pixels.

    Args:
        file: a path, or the encoded bytes.

    Returns:
        A Pillow image, to be closed. A JPEG may have more pixels than Pillow opens.

    Raises:
        UnidentifiedImageError: the file is of no known format.
        UnusableError: its format takes a package that is not installed.
    """
    try:
        return Image.open(_source(file), formats=FORMATS)
    except UnidentifiedImageError:
        start = _start(file)
        if start[4:8] != b"ftyp":
            raise
        if start[8:12] in (b"avif", b"avis") and not _AVIF:
            raise UnusableError("is AVIF, which takes Pillow 11.3 or later with AVIF") from None
        if start[8:12] not in _HEIF_BRANDS:
            raise
    except Image.DecompressionBombError:
        if not _start(file).startswith(b"\xff\xd8"):
            raise
        return JpegImagePlugin.JpegImageFile(_source(file))
    try:
        from pillow_heif import HeifImageFile
    except ImportError:  # an extra
        raise UnusableError("is HEIC, which takes pip install 'vision_jax[heic]'") from None
    return HeifImageFile(_source(file))


def kind_of(image: Image.Image) -> str:
    """Return the format of an opened image, one of those of `KINDS`."""
    return "JPEG" if image.format == "MPO" else str(image.format)


def _source(file: str | os.PathLike[str] | bytes) -> io.BytesIO | Path:
    return io.BytesIO(file) if isinstance(file, bytes) else Path(file)


def _start(file: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:12]
    with Path(file).open("rb") as opened:
        return opened.read(12)
