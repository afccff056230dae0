"""Image files to uint8 pixels by Pillow; a plain small PNG's bytes by libspng, if installed."""

import io
import os
import stat
import unicodedata
import warnings
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from vision_jax.errors import InputError

try:
    import pyspng
except ImportError:  # an extra, since not every machine has a wheel
    pyspng = None

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
MAX_PIXELS = 100_000_000
_BACKGROUND = (255, 255, 255)
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PLAIN = {1: b"\x08\0\0\0\0", 3: b"\x08\x02\0\0\0"}
"""Of 8 bits, grey or RGB, not interlaced: a PNG header's last bytes by the channels."""
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class BadImageError(InputError):
    """An image that cannot be used.

    Attributes:
        name: the image, as people know it.
        reason: what is wrong with it; the message is both.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type["BadImageError"], tuple[str, str]]:
        # A reader process hands it over pickled.
        return type(self), (self.name, self.reason)


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed on one line and encoded.

    Args:
        path: a path; bytes of it that are not UTF-8, and control characters, become `\\x..`.
    """
    if (plain := os.fspath(path)).isprintable():
        return plain
    text = os.fsencode(path).decode(errors="backslashreplace")
    unseen = ("Cc", "Zl", "Zp")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in unseen else c
        for c in text
    )


def read_image(
    file: str | os.PathLike[str] | bytes,
    *,
    channels: int,
    size: int | None = None,
    name: str | None = None,
) -> UInt8[np.ndarray, "height width channels"]:
    """Decodes one image, upright, in the channels asked for.

    The first frame of an animation is taken, the camera's orientation applied, transparency laid
    on white, and 16 bits are brought to 8 by their high byte.

    Args:
        file: a path, or the encoded bytes.
        channels: 1 for grey, 3 for RGB.
        size: if given, the shorter side is resized to it (bilinear, antialiased) and the centre
            square of that side is cut out.
        name: what to call the image in messages; the path by default.

    Returns:
        (height, width, channels) uint8 in [0, 255]; (size, size, channels) if `size` is given.

    Raises:
        BadImageError: the file is missing, empty, damaged, too large, or no image of a known
            format.
    """
    name = name or ("encoded bytes" if isinstance(file, bytes) else printable(file))
    if not isinstance(file, bytes) and (reason := path_fault(file)):
        raise BadImageError(name, reason)
    if isinstance(file, bytes) and size is None:
        plain = _decode_plain(file, channels)
        if plain is not None:
            return plain
    try:
        upright = _decode(file, channels, size)
    except (_TooLargeError, Image.DecompressionBombError) as error:
        raise BadImageError(name, str(error)) from None
    except UnidentifiedImageError:
        raise BadImageError(name, f"is no readable image ({', '.join(FORMATS)})") from None
    except MemoryError:
        raise
    except PermissionError as error:
        raise BadImageError(name, f"cannot be read: {error.strerror}") from None
    except Exception as error:  # the decoders raise many kinds for what is damaged
        what = str(error) or type(error).__name__
        raise BadImageError(name, f"is no readable image: {what}") from error
    if size is not None:
        upright = _resize_and_crop(upright, size)
    return np.asarray(upright).reshape(upright.height, upright.width, channels)


def path_fault(path: str | os.PathLike[str]) -> str | None:
    """Says why a path cannot be an image, without opening it: a pipe would wait for ever.

    Args:
        path: what is to be opened; links are followed.

    Returns:
        The reason; None for a regular file that is not empty.
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        if Path(path).is_symlink():
            return f"is a link to {printable(Path(path).readlink())}, which does not exist"
        return "does not exist; an image file is needed"
    except OSError as error:  # such as a loop of links, or no permission
        return f"cannot be read: {error.strerror}"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder; an image file is needed"
    if not stat.S_ISREG(status.st_mode):
        return "is a pipe, a socket or a device; an image file is needed"
    return None if status.st_size else "is empty"


class _TooLargeError(Exception):
    pass


def _decode_plain(data: bytes, channels: int) -> UInt8[np.ndarray, "height width channels"] | None:
    """A PNG that holds its pixels in these channels and nothing else; None for any other file.

    Pillow takes three times as long for a small image. libspng looks at no checksum: what those of
    the file's chunks show to be damaged is left to Pillow, but not a wrong one within the pixels'
    own stream, which would take half as long again.
    """
    shape = _plain_shape(data[:33], channels)
    if pyspng is None or shape is None or shape[0] * shape[1] > MAX_PIXELS:
        return None
    pixels = memoryview(data)[37:-16]  # and what they are called
    length, checksum = int.from_bytes(data[33:37]), int.from_bytes(data[-16:-12])
    if pixels[:4] != b"IDAT" or len(pixels) != length + 4 or not data.endswith(_PNG_END):
        return None
    if zlib.crc32(pixels) != checksum:
        return None
    try:
        return pyspng.load(data).reshape(shape)
    except (RuntimeError, ValueError):
        return None


@lru_cache
def _plain_shape(start: bytes, channels: int) -> tuple[int, int, int] | None:
    """(height, width, channels) of a PNG that starts so, if it is of the plain kind."""
    width, height, checksum = (int.from_bytes(start[at : at + 4]) for at in (16, 20, 29))
    if not start.startswith(_PNG) or start[24:29] != _PLAIN.get(channels):
        return None
    return (height, width, channels) if zlib.crc32(start[12:29]) == checksum else None


def _decode(file: str | os.PathLike[str] | bytes, channels: int, size: int | None) -> Image.Image:
    # Of odd metadata, and of sizes, which are checked below against this module's own bound. Only
    # Pillow's warnings, since threads that leave at once may leave the filter behind.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        source = io.BytesIO(file) if isinstance(file, bytes) else Path(file)
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _TooLargeError(
                    f"has {image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are read"
                )
            if size is not None:
                # JPEG: decode at a reduced scale, and only the brightness where that is enough.
                image.draft("L" if channels == 1 else None, (size, size))
            ImageOps.exif_transpose(image, in_place=True)
            return _convert(image, channels)


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.uint32)
        grey = np.where(deep == image.info.get("transparency", -1), 255, deep >> 8)
        image = Image.fromarray(grey.astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, _BACKGROUND)
        image = Image.alpha_composite(background, image)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)  # it would copy


def _resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = (left, top, left + side, top + side)
    if side == size:
        return image.crop(square)
    return image.resize((size, size), Image.Resampling.BILINEAR, square)
