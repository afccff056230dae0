"""Losses between images and their reconstructions, and of codes."""

from typing import get_args

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision_jax.config import PixelLoss
from vision_jax.ops import row_sum

Images = Float[Array, "batch height width channels"]


def pixel_losses(
    loss: PixelLoss, images: Images, reconstructions: Images, logits: Images
) -> Float[Array, " batch"]:
    """Compute each image's mean loss over its pixels and channels.

    Args:
        loss: `binary_cross_entropy`, in nats, or `mean_squared_error`.
        images: (B, H, W, C) in [0, 1].
        reconstructions: (B, H, W, C) in [0, 1].
        logits: (B, H, W, C) whose sigmoids are the reconstructions.

    Returns:
        (B,) at least 0.

    Raises:
        ValueError: an unknown loss.
    """
    match loss:
        case "mean_squared_error":
            return pixel_mean(jnp.square(reconstructions - images))
        case "binary_cross_entropy":
            return pixel_mean(optax.sigmoid_binary_cross_entropy(logits, images))
    raise ValueError(f"loss is {loss!r}; it must be one of {', '.join(get_args(PixelLoss))}")


def pixel_mean(values: Images) -> Float[Array, " batch"]:
    """Average each image over its pixels and channels.

    Args:
        values: (B, H, W, C).

    Returns:
        (B,).
    """
    rows = values.reshape(len(values), -1)
    return row_sum(rows) * jnp.float32(1 / rows.shape[1])


def standard_normal_divergence(
    mean: Float[Array, "batch code"], log_variance: Float[Array, "batch code"]
) -> Float[Array, " batch"]:
    """Compute the Kullback-Leibler divergence of diagonal Gaussians from the standard normal.

    Args:
        mean: (B, D).
        log_variance: (B, D) natural logarithms of the variances.

    Returns:
        (B,) nats, at least 0 (Kingma and Welling, 2014, appendix B).
    """
    terms = jnp.square(mean) + jnp.exp(log_variance) - log_variance - jnp.ones((), mean.dtype)
    return jnp.sum(terms, -1) * 0.5
