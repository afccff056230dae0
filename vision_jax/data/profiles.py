"""Convert colours with a profile to sRGB."""

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode of each colour space that is converted, as profiles name it."""
_SAME = 2
"""Levels of 256 that two profiles of one space may differ by."""
_STEPS = (0, 32, 64, 96, 128, 160, 192, 224, 255)


def to_srgb(image: Image.Image) -> Callable[[Image.Image], Image.Image] | None:
    """Return the conversion of an image's colours to sRGB.

    Args:
        image: an opened image; its pixels need not be loaded.

    Returns:
        A function of an image of mode `profile_mode` to one of mode RGB. None if the colours are
        sRGB as they are: the image has no profile, or one of sRGB, or one that cannot be read or is
        of another colour space than its pixels.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return None
    transform = _transform(profile, profile_mode(image))
    if transform is None:
        return None
    return lambda pixels: _apply(transform, pixels)


def profile_mode(image: Image.Image) -> str:
    """Return the mode that holds an image's colours as its profile means them: L, RGB or CMYK."""
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I"):
        return "L"
    return "CMYK" if image.mode == "CMYK" else "RGB"


def _apply(transform: ImageCms.ImageCmsTransform, pixels: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(pixels, transform)
    assert converted is not None
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _SPACES.get(source.profile.xcolor_space) != mode:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == "L":
        levels = np.arange(256, dtype=np.uint8)[None]
    else:
        levels = np.stack(np.meshgrid(*[np.array(_STEPS, np.uint8)] * 3), -1).reshape(1, -1, 3)
    colours = Image.fromarray(levels)
    before = np.asarray(colours.convert("RGB"), np.int16)
    after = np.asarray(_apply(transform, colours), np.int16)
    return bool(np.max(np.abs(after - before)) <= _SAME)
