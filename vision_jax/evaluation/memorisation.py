"""Whether generated images are copies of training images."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vision_jax.data.loader import read_all
from vision_jax.run.run import Run
from vision_jax.search import cosine_top_k
from vision_jax.visual.grids import Pixels

_GALLERY = 60_000


def nearest_training_images(
    run: Run, images: Pixels
) -> tuple[Pixels, Float[np.ndarray, " images"]]:
    """Finds the training image that each image is most like: the same one would be memorised.

    Args:
        run: the run whose training images are searched, the first 60,000 of them.
        images: (N, H, W, C) uint8.

    Returns:
        Those images (N, H, W, C) and the cosines (N,) of their pixels.
    """
    known = read_all(run.source(run.config.data.train_split), limit=_GALLERY)["image"]
    rows, queries = (
        jnp.asarray(part.reshape(len(part), -1).astype(np.float32)) for part in (known, images)
    )
    cosines, ids = cosine_top_k(queries, rows, 1)
    return known[np.asarray(ids)[:, 0]], np.asarray(cosines)[:, 0]
