"""Decode image files to uint8 pixels: plain PNG by libspng if installed, the rest by Pillow."""

import os
import stat
import unicodedata
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from vision_jax.config import Truncated
from vision_jax.data.findings import warn_once
from vision_jax.data.formats import FORMATS, UnusableError, kind_of, open_image
from vision_jax.data.metadata import with_end, without_metadata
from vision_jax.data.pillow_warnings import pillow_warnings_ignored
from vision_jax.data.profiles import profile_mode, to_srgb
from vision_jax.data.resize import PLAIN, Resize, Size, least_size, to_size
from vision_jax.errors import InputError

try:
    import pyspng
except ImportError:  # an extra, since not every machine has a wheel
    pyspng = None

MAX_PIXELS = 100_000_000
MAX_REDUCED_PIXELS = 250_000_000
_BACKGROUND = (255, 255, 255)
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PLAIN = {1: b"\x08\0\0\0\0", 3: b"\x08\x02\0\0\0"}
"""The last bytes of a PNG header by channels: 8 bits, grey or RGB, not interlaced."""
_CUT = "lacks its last bytes; what they held is grey"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns an image upright, by its EXIF orientation."""
_ACROSS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]
"""Those that swap width and height."""
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class BadImageError(InputError):
    """An image that cannot be used.

    Attributes:
        name: what people know the image by.
        reason: what is wrong with it. The message joins both.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type["BadImageError"], tuple[str, str]]:
        # Reader processes pass it on pickled.
        return type(self), (self.name, self.reason)


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be printed on one line and encoded.

    Args:
        path: a path. Bytes that are not UTF-8 and control characters become `\\x..`.
    """
    if (plain := os.fspath(path)).isprintable():
        return plain
    text = os.fsencode(path).decode(errors="backslashreplace")
    unseen = ("Cc", "Zl", "Zp")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in unseen else c
        for c in text
    )


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: (height, width, channels) uint8 in [0, 255].
        kind: the file's format by its content, one of `formats.KINDS`.
        notes: what was odd about the file, each a predicate such as "lacks its last bytes".
    """

    pixels: UInt8[np.ndarray, "height width channels"]
    kind: str
    notes: tuple[str, ...]


def read_image(
    file: str | os.PathLike[str] | bytes,
    *,
    channels: int,
    size: Size | None = None,
    resize: Resize = PLAIN,
    name: str | None = None,
    truncated: Truncated = "error",
) -> UInt8[np.ndarray, "height width channels"]:
    """Decode one image, upright, in sRGB, in the channels asked for.

    The first frame of an animation is taken, the camera's orientation applied and transparency laid
    on white. Colours with a profile are converted to sRGB. 16 bits are brought to 8 by their high
    byte; if no value exceeds 4095, they are taken for 12 bits. Metadata that cannot be read is
    ignored.

    Args:
        file: a path, or the encoded bytes.
        channels: 1 for grey, 3 for RGB.
        size: if given, what the image is brought to: a side, or (height, width). A JPEG of up to
            250 megapixels is then decoded at a reduced scale.
        resize: how; by default the largest part of that shape is cut out of the centre and scaled,
            bilinear and antialiased.
        name: what to call the image in messages; the path by default.
        truncated: `error` refuses a JPEG whose last bytes are missing; `use` takes what is there
            with a `DataWarning`, and leaves the rest grey.

    Returns:
        (height, width, channels) uint8 in [0, 255], of `size` if it is given.

    Raises:
        BadImageError: the file is missing, empty, damaged, too large, or not an image of a known
            format.
    """
    return decode_image(
        file, channels=channels, size=size, resize=resize, name=name, truncated=truncated
    ).pixels


def decode_image(
    file: str | os.PathLike[str] | bytes,
    *,
    channels: int,
    size: Size | None = None,
    resize: Resize = PLAIN,
    name: str | None = None,
    truncated: Truncated = "error",
) -> Decoded:
    """Decode one image as `read_image` does, and say what was odd about it.

    Raises:
        BadImageError: see `read_image`.
    """
    name = name or ("encoded bytes" if isinstance(file, bytes) else printable(file))
    if not isinstance(file, bytes) and (reason := path_fault(file)):
        raise BadImageError(name, reason)
    if isinstance(file, bytes) and size is None:
        plain = _decode_plain(file, channels)
        if plain is not None:
            return Decoded(plain, "PNG", ())
    try:
        decoded = _decode(file, channels, size, resize, truncated)
    except (UnusableError, Image.DecompressionBombError) as error:
        raise BadImageError(name, str(error)) from None
    except UnidentifiedImageError:
        known = ", ".join((*FORMATS, "HEIF"))
        raise BadImageError(name, f"is not a readable image ({known})") from None
    except MemoryError:
        raise
    except PermissionError as error:
        raise BadImageError(name, f"cannot be read: {error.strerror}") from None
    except Exception as error:  # the decoders raise many kinds for what is damaged
        what = str(error) or type(error).__name__
        raise BadImageError(name, f"is not a readable image: {what}") from error
    if _CUT in decoded.notes:
        message = f"{name} {_CUT}; others may, too: vision-jax check lists all"
        warn_once(message, key=_CUT)
    return decoded


def path_fault(path: str | os.PathLike[str]) -> str | None:
    """Say why a path cannot be an image, without opening it: a pipe would block forever.

    Args:
        path: a path; links are followed.

    Returns:
        The reason, or None for a regular file that is not empty.
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        if Path(path).is_symlink():
            return f"is a link to {printable(Path(path).readlink())}, which does not exist"
        return "does not exist; an image file is needed"
    except (OSError, ValueError) as error:  # such as a loop of links, no permission, a null byte
        return f"cannot be read: {getattr(error, 'strerror', error)}"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder; an image file is needed"
    if not stat.S_ISREG(status.st_mode):
        return "is a pipe, a socket or a device; an image file is needed"
    return None if status.st_size else "is empty"


def _decode_plain(data: bytes, channels: int) -> UInt8[np.ndarray, "height width channels"] | None:
    """Decode a PNG that holds nothing but its pixels, in these channels.

    libspng takes a third of Pillow's time for a small image. It ignores checksums, so the chunks'
    are checked here, and a damaged file is left to Pillow. The checksum within the pixel stream is
    not checked, which would take half as long again.

    Returns:
        The pixels, or None for any other file.
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
    """Return (height, width, channels) by the first bytes of a PNG, if it is a plain one."""
    width, height, checksum = (int.from_bytes(start[at : at + 4]) for at in (16, 20, 29))
    if not start.startswith(_PNG) or start[24:29] != _PLAIN.get(channels):
        return None
    return (height, width, channels) if zlib.crc32(start[12:29]) == checksum else None


def _decode(
    file: str | os.PathLike[str] | bytes,
    channels: int,
    size: Size | None,
    resize: Resize,
    truncated: Truncated,
) -> Decoded:
    """Decode a file, if need be without the metadata that cannot be read."""
    try:
        return _decode_whole(file, channels, size, resize)
    except (UnusableError, Image.DecompressionBombError, MemoryError, PermissionError):
        raise
    except Exception:
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
        for mended, note in _mended(data, truncated):
            try:
                decoded = _decode_whole(mended, channels, size, resize)
            except MemoryError:
                raise
            except Exception:  # the first error says most
                continue
            return decoded._replace(notes=(*decoded.notes, note))
        raise


def _mended(data: bytes, truncated: Truncated) -> Iterator[tuple[bytes, str]]:
    """Give the ways to mend a damaged file, each with the note it takes."""
    bare = [without_metadata(data, keep_orientation=keep) for keep in (True, False)]
    for start in dict.fromkeys(bare):
        if start != data:
            yield start, "has metadata that cannot be read, and is ignored"
    if truncated == "use":
        for start in dict.fromkeys((data, *bare)):
            if (ended := with_end(start)) is not None:
                yield ended, _CUT


def _decode_whole(
    file: str | os.PathLike[str] | bytes, channels: int, size: Size | None, resize: Resize
) -> Decoded:
    notes: list[str] = []
    with pillow_warnings_ignored():
        with open_image(file) as image:
            profile = to_srgb(image)
            mode = "L" if channels == 1 else "RGB"
            # Resize in the profile's own colours and convert after that: it is fewer pixels.
            held = mode if profile is None else profile_mode(image)
            kind = kind_of(image)
            _bound_pixels(image, size if kind == "JPEG" else None, resize, held)
            image.load()
            turn = _turn(image, notes)
            picture = _convert(image, held, notes)
        if turn is not None:
            picture = picture.transpose(turn)
    if profile is not None and held == "CMYK" and resize.fit == "pad":
        # Where 0 is no ink, the bars would be white.
        picture, profile = profile(picture), None
    if size is not None:
        picture = to_size(picture, size, resize)
    if profile is not None:
        picture = profile(picture)
    picture = picture if picture.mode == mode else picture.convert(mode)
    pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    return Decoded(pixels, kind, tuple(notes))


def _bound_pixels(image: Image.Image, size: Size | None, resize: Resize, mode: str) -> None:
    """Refuse too many pixels, after setting a JPEG to a reduced scale where a size allows."""
    width, height = image.size
    if size is not None and width * height <= MAX_REDUCED_PIXELS:
        turned = _turn(image, []) in _ACROSS
        least = least_size((height, width) if turned else image.size, size, resize)
        # Mode L decodes the brightness alone.
        image.draft("L" if mode == "L" else None, least[::-1] if turned else least)
    if image.width * image.height > MAX_PIXELS:
        raise UnusableError(
            f"has {width}x{height} pixels; at most {MAX_PIXELS:,} are read, and of a JPEG "
            f"{MAX_REDUCED_PIXELS:,} if image_size is given"
        )


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the (width, height) of an opened image once it is turned upright.

    Of a PNG only what stands before the pixels is read: they would have to be decoded.
    """
    if image.format == "TIFF":  # Pillow gives it upright
        return image.size
    there = image.format != "PNG" or "exif" in image.info
    across = there and _turn(image, []) in _ACROSS
    return image.size[::-1] if across else image.size


def _turn(image: Image.Image, notes: list[str]) -> Image.Transpose | None:
    """Return the transposition that turns an image upright, by its EXIF or XMP data."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises many kinds
        notes.append("has EXIF data that cannot be read, and is ignored")
        return None


def _convert(image: Image.Image, mode: str, notes: list[str]) -> Image.Image:
    if image.mode == "F":
        raise UnusableError("has floating-point pixels; 8 or 16 bits are needed")
    if image.mode.startswith("I"):
        image = _to_eight_bits(image, notes)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, _BACKGROUND)
        image = Image.alpha_composite(background, image)
    return image if image.mode == mode else image.convert(mode)  # it would copy


def _to_eight_bits(image: Image.Image, notes: list[str]) -> Image.Image:
    deep = np.asarray(image)
    lowest, highest = int(deep.min()), int(deep.max())
    if lowest < 0 or highest >= 1 << 16:
        raise UnusableError(f"has pixels in [{lowest}, {highest}]; at most 16 bits are read")
    is_12_bits = highest < 1 << 12
    if is_12_bits:
        notes.append("has 16-bit pixels of which none exceeds 4095, and is read as 12 bits")
    grey = deep.astype(np.uint32) >> (4 if is_12_bits else 8)
    grey = np.where(deep == image.info.get("transparency", -1), 255, grey)
    if getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0:
        grey = 255 - grey  # 0 is white in such a TIFF, which Pillow heeds up to 8 bits
    return Image.fromarray(grey.astype(np.uint8))
