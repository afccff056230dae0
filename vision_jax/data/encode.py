"""Pixels to Pillow images and PNG bytes."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def to_pil(
    image: UInt8[np.ndarray, "height width channels"] | UInt8[np.ndarray, "height width"],
) -> Image.Image:
    """Turn pixels into a Pillow image.

    Args:
        image: (height, width, 1) or (height, width) for grey, (height, width, 3) for RGB; uint8.

    Returns:
        An image of mode `L` or `RGB`.
    """
    return Image.fromarray(image.squeeze(-1) if image.shape[2:] == (1,) else image)


def to_png(
    image: UInt8[np.ndarray, "height width channels"] | UInt8[np.ndarray, "height width"],
) -> bytes:
    """Encode pixels as a PNG file.

    Args:
        image: as for `to_pil`.

    Returns:
        The file's bytes.
    """
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG")
    return buffer.getvalue()
