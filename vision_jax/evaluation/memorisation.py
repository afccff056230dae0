"""Whether generated images are copies of training images."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from vision_jax.bars import tqdm
from vision_jax.data.sources import Source
from vision_jax.evaluation.retrieval import image_parts, nearest
from vision_jax.visual.grids import Pixels


def nearest_training_images(
    train: Source, images: Pixels
) -> tuple[Pixels, Float[np.ndarray, " images"]]:
    """Find each image's nearest training image; an identical match indicates memorisation.

    Args:
        train: the training images.
        images: (N, H, W, C) uint8.

    Returns:
        Those images (N, H, W, C), and the cosines (N,) of their pixels. A black image has no
        cosine: it gets the first training image, and 0.
    """
    places, cosines = nearest_training_places(train, images)
    return np.stack([example["image"] for example in train.read(places.tolist())]), cosines


def nearest_training_places(
    train: Source, images: Pixels
) -> tuple[Int[np.ndarray, " images"], Float[np.ndarray, " images"]]:
    """Find as `nearest_training_images` does; returns places in `train` instead of images."""
    with tqdm(total=len(train), desc="nearest training images", unit="img", delay=2) as bar:

        def parts() -> Iterator[Float[np.ndarray, "images pixels"]]:
            for part in image_parts(train):
                yield _flat(part)
                bar.update(len(part))

        cosines, places, _ = nearest(_flat(images), parts(), 1)
    found = places[:, 0] >= 0
    return np.where(found, places[:, 0], 0), np.where(found, cosines[:, 0], np.float32(0))


def _flat(images: Pixels) -> Float[np.ndarray, "images pixels"]:
    return images.reshape(len(images), -1).astype(np.float32)
