"""Whether generated images are copies of training images."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vision_jax.data.loader import read_all
from vision_jax.data.sources import Source
from vision_jax.search import cosine_top_k
from vision_jax.visual.grids import Pixels

_MOST = 60_000


def nearest_training_images(
    train: Source, images: Pixels
) -> tuple[Pixels, Float[np.ndarray, " images"]]:
    """Find each image's nearest training image; an identical match indicates memorisation.

    Args:
        train: the training images, of which the first 60,000 are searched.
        images: (N, H, W, C) uint8.

    Returns:
        Those images (N, H, W, C), and the cosines (N,) of their pixels.
    """
    known = read_all(train, limit=_MOST)["image"]
    rows, queries = (
        jnp.asarray(part.reshape(len(part), -1).astype(np.float32)) for part in (known, images)
    )
    cosines, ids = cosine_top_k(queries, rows, 1)
    return known[np.asarray(ids)[:, 0]], np.asarray(cosines)[:, 0]
