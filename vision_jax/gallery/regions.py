"""Search by a part of an image."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float, Num

from vision_jax.data.boxes import BoxLike, pixel_box, region_weights
from vision_jax.data.decode import printable, read_image
from vision_jax.data.encode import to_png
from vision_jax.errors import InputError
from vision_jax.gallery.origin import check_encoder, check_single_view
from vision_jax.run.inputs import read_encoded
from vision_jax.run.parts import embedding_parts
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.search.filters import Where
from vision_jax.search.protocol import Found


def search_region(
    index: CosineIndex,
    run: Run,
    image: str | Path | Num[np.ndarray | Array, "height width channels"],
    box: BoxLike,
    k: int,
    *,
    where: Where | None = None,
    min_score: float | None = None,
    method: str = "exact",
) -> Found:
    """Look up what is in a box of an image.

    The query is the average of the feature map's positions, each weighted by how much of it lies
    under the box. The index's vectors stay those of whole images. `explain.similarity_map` with the
    same box shows where in each hit the query is found.

    Args:
        index: The index to search.
        run: The run that made its vectors.
        image: An image file, or (H, W, C) pixels of the run's shape.
        box: (x0, y0, x1, y1) from the top left corner, in pixels, or in fractions if none is above
            1. Of a file it is of the whole upright image, before it is cropped and scaled.
        k: How many neighbours.
        where: Which may be found, as for `CosineIndex.search`; all by default.
        min_score: Least cosine, as for `CosineIndex.search`.
        method: As for `CosineIndex.search`.

    Returns:
        `(scores, ids)`, both (1, k), best first; missing places -inf and -1.

    Raises:
        InputError: If another network made the index, it averages several views, the image is
            unreadable or of another shape, the network sees nothing of the box, or its embedding
            is no average of a feature map.
    """
    check_encoder(index, run)
    check_single_view(index, "a box")
    vector = embed_region(run, image, box)
    return index.search(vector[None], k, where, min_score=min_score, method=method)


def embed_region(
    run: Run, image: str | Path | Num[np.ndarray | Array, "height width channels"], box: BoxLike
) -> Float[np.ndarray, " features"]:
    """Turn what is in a box of an image into a vector; see `search_region`.

    Returns:
        (D,) float32.
    """
    height, width, _ = run.info.image_shape
    if isinstance(image, str | Path):
        region: BoxLike | np.ndarray = file_mask(run, image, box)
        pixels = run.read_images([image])
    else:
        region, pixels = box, np.asarray(image)[None]
    parts = embedding_parts(run, pixels)
    weights = region_weights(region, (width, height), parts.parts.shape[1:3])
    vector: np.ndarray = parts.within(weights).embedding[0]
    return vector


def file_mask(run: Run, path: str | Path, box: BoxLike) -> Float[np.ndarray, "height width"]:
    """Mark what a run sees of a box on an image file.

    A picture of the box is read as the run reads images, whatever it does to fit their shape.

    Args:
        run: The run.
        path: The image file.
        box: In pixels of the whole upright image, or in fractions if none is above 1.

    Returns:
        (H, W) in [0, 1], at the run's image size: 1 within the box.

    Raises:
        InputError: If the file is unreadable, or the run sees nothing of the box.
    """
    height, width = read_image(path, channels=1).shape[:2]
    return region_mask(run, (width, height), box, name=printable(path))


def region_mask(
    run: Run, size: tuple[int, int], box: BoxLike, *, name: str = "the image"
) -> Float[np.ndarray, "height width"]:
    """Mark what a run sees of a box on an image of a size; see `file_mask`.

    Args:
        run: The run.
        size: (width, height) of the whole upright image.
        box: As for `file_mask`.
        name: What to call the image in messages.

    Raises:
        InputError: If the run sees nothing of the box.
    """
    width, height = size
    x0, y0, x1, y1 = pixel_box(box, size)
    drawn = np.zeros((2, height, width), np.uint8)
    drawn[1, math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)] = 255
    seen = [read_encoded(run, to_png(pixels))[..., 0].astype(np.float64) / 255 for pixels in drawn]
    mask: np.ndarray = np.clip(seen[1] - seen[0], 0, 1)
    if not mask.any():
        raise InputError(
            f"box is {' '.join(f'{edge:g}' for edge in box)}, and the run in {run.workdir} sees "
            f"nothing of it: it cuts the centre out of {name}, {width}x{height} pixels"
        )
    return mask
