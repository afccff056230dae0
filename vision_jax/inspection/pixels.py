"""What one pass over all pixels of a data set finds."""

import dataclasses
import hashlib
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt8

from vision_jax.augment.color import to_grey
from vision_jax.bars import tqdm
from vision_jax.data.loader import Loader, to_float
from vision_jax.data.sources import Source

THUMBNAIL = 16
_BATCH_PIXELS = 2**22  # pixels that are decoded at once
_CONSTANT = 0.5 / 255  # no pixel of an image of a single grey is farther from the mean


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What one pass over all decoded pixels found.

    Attributes:
        histograms: by split, how often each channel takes each value, (C, 256) int64.
        labels: (N,) the label of each image, or None.
        digests: a SHA-256 of each image's pixels.
        thumbnails: (N, D) float32, each image in grey, brought to at most 16x16, minus its mean, so
            that neither brightness nor contrast counts. An image of a single grey is 0.
    """

    histograms: dict[str, Integer[np.ndarray, "channels 256"]]
    labels: Integer[np.ndarray, " images"] | None
    digests: list[bytes]
    thumbnails: Float[np.ndarray, "images dim"]


def read_pixels(source: Source) -> Pixels:
    """Decode every image once, a few at a time, with a progress bar if it takes some seconds.

    Args:
        source: the images.

    Returns:
        A `Pixels`.

    Raises:
        InputError: an image cannot be read.
    """
    height, width, channels = source.image_shape
    at_once = min(max(_BATCH_PIXELS // (height * width), 1), 256, len(source))
    loader = Loader(source, at_once, train=False, on_device_bytes=-1)
    splits, seen = np.array(source.splits()), 0
    histograms: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((channels, 256), np.int64))
    digests: list[bytes] = []
    thumbnails, labels = [], []
    with tqdm(total=len(source), desc=f"reading {source.name}", unit="img", delay=2) as bar:
        for item in loader.items(0, loader.steps_per_epoch):
            count = int(item["mask"].sum())
            images = item["image"][:count]
            part = splits[seen : seen + count]
            for split in np.unique(part):
                histograms[str(split)] += _histograms(images[part == split])
            digests += [hashlib.sha256(image.tobytes()).digest() for image in images]
            thumbnails.append(np.asarray(_thumbnails(item["image"]))[:count])
            if source.label_names is not None:
                labels.append(item["label"][:count])
            seen += count
            bar.update(count)
    known = np.concatenate(labels) if labels else None
    return Pixels(dict(histograms), known, digests, np.concatenate(thumbnails))


def mean_and_deviation(
    histograms: Integer[np.ndarray, "channels 256"],
) -> tuple[list[float], list[float]]:
    """Compute each channel's mean and standard deviation in [0, 1], exact up to the last rounding.

    Args:
        histograms: (C, 256) how often each channel takes each value.

    Returns:
        (means, deviations), a float per channel; the deviation is that of all pixels (1/N).
    """
    means, deviations = [], []
    for row in histograms.tolist():
        # Python's integers neither round nor overflow, however many pixels there are.
        count = sum(row)
        total = sum(value * times for value, times in enumerate(row))
        squares = sum(value * value * times for value, times in enumerate(row))
        means.append(total / (255 * count))
        deviations.append(((count * squares - total * total) / (255 * count) ** 2) ** 0.5)
    return means, deviations


def _histograms(
    images: UInt8[np.ndarray, "n height width channels"],
) -> Integer[np.ndarray, "channels 256"]:
    channels = np.moveaxis(images, -1, 0)
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])


@jax.jit
def _thumbnails(images: Integer[Array | np.ndarray, "n h w c"]) -> Float[Array, "n dim"]:
    count, height, width, _ = images.shape
    grey = to_grey(to_float(jnp.asarray(images)))[..., 0]  # JPEG keeps colour far worse
    shape = (count, min(height, THUMBNAIL), min(width, THUMBNAIL))
    rows = jax.image.resize(grey, shape, "linear").reshape(count, -1)
    rows = rows - rows.mean(1, keepdims=True)
    # What rounding leaves of a single grey must not count as a direction.
    constant = jnp.abs(rows).max(1, keepdims=True) < _CONSTANT
    return jnp.where(constant, 0.0, rows)
