"""Weights and images drawn from names and shapes, and what is stored of outputs."""

import gzip
import json
import math
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
NAMES = FOLDER / "names.json.gz"
"""The tensors' names and shapes, as libraries' files have them: `narrow/LIBRARY/MODEL` and
`full/…` of the cases, and `named/…` of every model that can be loaded."""
OUTPUTS = FOLDER / "outputs.npz"
"""Samples of the outputs of each case, as `CASE/HEIGHTxWIDTH/ENDPOINT`."""

SAMPLES = 48


def draw(name, shape):
    """Draw the tensor of a name so that networks' outputs neither vanish nor explode.

    Variances are small, which makes epsilon matter.
    """
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    values = np.random.default_rng(zlib.crc32(name.encode())).random(shape, np.float32)
    leaf = name.rpartition("/")[2].rpartition(".")[2].removesuffix(":0")
    place = leaf if leaf.isdigit() else None
    norm = "batch_normalization" in name
    if leaf in ("running_var", "moving_variance") or (norm and place == "3"):
        return 0.005 + 0.01 * values
    if len(shape) > 1:
        in_keras = leaf == "kernel" or place is not None
        fan_in = math.prod(shape[:-1] if in_keras else shape[1:])
        return (values - 0.5) * np.float32(math.sqrt(12 * 1.5 / fan_in))
    if leaf in ("weight", "gamma") or (norm and place == "0"):
        return 0.05 + 0.1 * values
    return 0.2 * (values - 0.5)


def draw_all(shapes):
    """Draw the tensors of names and shapes."""
    return {name: draw(name, tuple(shape)) for name, shape in shapes.items()}


def images(height, width):
    """Draw two images in [0, 1]."""
    return np.random.default_rng(0).random((2, height, width, 3), np.float32)


def sample(values):
    """Keep some of an endpoint's values, spread over it."""
    flat = np.asarray(values, np.float32).reshape(-1)
    return flat[np.linspace(0, flat.size - 1, SAMPLES).astype(int)]


def packed(content):
    """Compress JSON to bytes, the same for the same content."""
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0)


def stored_names():
    """Return what is in `NAMES`."""
    return json.loads(gzip.decompress(NAMES.read_bytes()))


def photograph(name, size):
    """Crop a photograph of scikit-learn's as a `Preprocessing` of crop 0.875 says.

    Returns:
        (size, size, 3) float32 in [0, 1].
    """
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(name))
    scale = round(size / 0.875) / min(image.size)
    scaled = [round(side * scale) for side in image.size]
    left, top = ((side - size) // 2 for side in scaled)
    image = image.resize(scaled, Image.Resampling.BICUBIC)
    cropped = image.crop((left, top, left + size, top + size))
    return np.asarray(cropped, np.float32) / np.float32(255)
