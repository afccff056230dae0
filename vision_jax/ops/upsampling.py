"""Upsampling of NHWC images."""

from jaxtyping import Array, Float

from vision_jax.ops.cpu import upsampling


def upsample_nearest(
    x: Float[Array, "batch height width channels"], factor: int = 2
) -> Float[Array, "batch out_height out_width channels"]:
    """Repeat each pixel `factor` times in both directions.

    Args:
        x: Images.
        factor: Enlargement, at least 1.

    Returns:
        The enlarged images.

    Raises:
        ValueError: If `factor` is less than 1.
    """
    if factor < 1:
        raise ValueError(f"upsample_nearest: factor is {factor}, needs at least 1")
    return upsampling.repeat(x, factor=factor)
