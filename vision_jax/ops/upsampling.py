"""Upsampling of NHWC images."""

import operator
from typing import SupportsIndex

from jaxtyping import Array, Shaped

from vision_jax.ops.cpu import upsampling
from vision_jax.ops.windows import check_images


def upsample_nearest(
    x: Shaped[Array, "batch height width channels"], factor: SupportsIndex = 2
) -> Shaped[Array, "batch out_height out_width channels"]:
    """Repeat each pixel `factor` times in both directions.

    Args:
        x: Images.
        factor: Enlargement, at least 1.

    Returns:
        The enlarged images.

    Raises:
        ValueError: If the images have another number of axes, or `factor` is less than 1.
    """
    check_images("upsample_nearest", x)
    count = operator.index(factor)
    if count < 1:
        raise ValueError(f"upsample_nearest: factor is {factor}, needs at least 1")
    return upsampling.repeat(x, factor=count)
