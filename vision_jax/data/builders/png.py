"""PNG bytes from pixels: what a tfds image feature takes without TensorFlow."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def encode_png(pixels: UInt8[np.ndarray, "height width"]) -> io.BytesIO:
    """Encodes one grey image.

    Args:
        pixels: (height, width) uint8.

    Returns:
        The PNG file in memory, at its start.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    buffer.seek(0)
    return buffer
