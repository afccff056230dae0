"""What the builders share: PNG bytes, which a tfds image feature takes without TensorFlow."""

import io
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm


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


def show_progress(images: np.ndarray, name: str) -> Iterable[np.ndarray]:
    """Passes images through under a progress bar, which shows if they take some seconds."""
    return tqdm(images, desc=f"preparing {name}", unit="img", delay=1, leave=False)
