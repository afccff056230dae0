"""Whether generated images are copies of training images."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from vision_jax.bars import tqdm
from vision_jax.data.loader import read_parts
from vision_jax.data.sources import Source
from vision_jax.evaluation.retrieval import nearest
from vision_jax.visual.grids import Pixels

_AT_ONCE = 2**22  # bytes of training images in memory, some times over in threads


def nearest_training_images(
    train: Source, images: Pixels
) -> tuple[Pixels, Float[np.ndarray, " images"]]:
    """Find each image's nearest training image; an identical match indicates memorisation.

    Args:
        train: the training images.
        images: (N, H, W, C) uint8.

    Returns:
        Those images (N, H, W, C), and the cosines (N,) of their pixels; for a black image any
        training image, and 0.
    """
    cosines, ids, _ = nearest(_flat(images), _parts(train), 1)
    found = train.read(np.maximum(ids[:, 0], 0).tolist())
    return (
        np.stack([example["image"] for example in found]),
        np.where(ids[:, 0] < 0, np.float32(0), cosines[:, 0]),
    )


def _parts(train: Source) -> Iterator[Float[np.ndarray, "images pixels"]]:
    size = max(1, min(4096, _AT_ONCE // int(np.prod(train.image_shape))))
    with tqdm(total=len(train), desc="nearest training images", unit="img", delay=2) as bar:
        for rows in read_parts(train, size):
            yield _flat(rows["image"])
            bar.update(len(rows["image"]))


def _flat(images: Pixels) -> Float[np.ndarray, "images pixels"]:
    return images.reshape(len(images), -1).astype(np.float32)
