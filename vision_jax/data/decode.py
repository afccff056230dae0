"""Image files to uint8 pixels, by Pillow."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from vision_jax.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
MAX_PIXELS = 100_000_000
_BACKGROUND = (255, 255, 255)


def read_image(
    file: str | os.PathLike[str] | bytes,
    *,
    channels: int,
    size: int | None = None,
    name: str | None = None,
) -> UInt8[np.ndarray, "height width channels"]:
    """Decodes one image, upright, in the channels asked for.

    The first frame of an animation is taken, the camera's orientation applied, transparency laid
    on white, and 16-bit grey brought to 8 bits by its high byte.

    Args:
        file: a path, or the encoded bytes.
        channels: 1 for grey, 3 for RGB.
        size: if given, the shorter side is resized to it (bilinear, antialiased) and the centre
            square of that side is cut out.
        name: what to call the image in messages; the path by default.

    Returns:
        (height, width, channels) uint8 in [0, 255]; (size, size, channels) if `size` is given.

    Raises:
        InputError: the file is missing, damaged, too large, or no image of a known format.
    """
    name = name or ("encoded bytes" if isinstance(file, bytes) else os.fspath(file))
    try:
        # The size is checked below against this module's own, lower bound.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            source = io.BytesIO(file) if isinstance(file, bytes) else Path(file)
            with Image.open(source, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(
                        f"{name} has {image.width}x{image.height} pixels; "
                        f"at most {MAX_PIXELS:,} are read"
                    )
                if size is not None:
                    image.draft(None, (size, size))  # JPEG: decode at a reduced scale
                image.load()
                upright = _convert(ImageOps.exif_transpose(image), channels)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name} does not exist; an image file is needed") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} is no readable image ({', '.join(FORMATS)}): {error}") from error
    if size is not None:
        upright = _resize_and_crop(upright, size)
    return np.asarray(upright).reshape(upright.height, upright.width, channels)


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, _BACKGROUND)
        image = Image.alpha_composite(background, image)
    return image.convert("L" if channels == 1 else "RGB")


def _resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    if min(image.size) != size:
        scale = size / min(image.size)
        shape = (max(size, round(image.width * scale)), max(size, round(image.height * scale)))
        image = image.resize(shape, Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))
