"""Losses between images and their reconstructions."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.ops.cpu.row_sum import row_sum


def standard_normal_divergence(
    mean: Float[Array, "batch code"], log_variance: Float[Array, "batch code"]
) -> Float[Array, " batch"]:
    """The Kullback-Leibler divergence of diagonal Gaussians from the standard normal.

    Args:
        mean: (B, D).
        log_variance: (B, D) natural logarithms of the variances.

    Returns:
        (B,) nats, at least 0 (Kingma and Welling, 2014, appendix B).
    """
    terms = jnp.square(mean) + jnp.exp(log_variance) - log_variance - jnp.ones((), mean.dtype)
    return jnp.sum(terms, -1) * 0.5


def pixel_mean(values: Float[Array, "batch height width channels"]) -> Float[Array, " batch"]:
    """Average each image over its pixels and channels.

    Args:
        values: (B, H, W, C).

    Returns:
        (B,).
    """
    rows = values.reshape(len(values), -1)
    return row_sum(rows) * jnp.float32(1 / rows.shape[1])
