"""Gradients of a score by the pixels, and their averages.

Maps are (B, H, W), at the images' own resolution.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vision_jax.errors import InputError
from vision_jax.explain.baselines import Baseline, baseline_images
from vision_jax.explain.checks import check_count
from vision_jax.explain.feature_maps import Images, Network, Score

Maps = Float[Array, "batch height width"]


def pixel_gradients(network: Network, score: Score, images: Images) -> Images:
    """Differentiate scores by the images.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].

    Returns:
        (B, H, W, C).
    """
    return jax.grad(lambda pixels: jnp.sum(score(*network(pixels))))(images)


def gradient(network: Network, score: Score, images: Images) -> Maps:
    """Take the largest absolute gradient of each pixel's channels.

    Simonyan et al., "Deep inside convolutional networks", 2014.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].

    Returns:
        (B, H, W) at least 0.
    """
    return jnp.max(jnp.abs(pixel_gradients(network, score, images)), -1)


def gradient_x_input(network: Network, score: Score, images: Images) -> Maps:
    """Multiply each pixel by its gradient, and sum over channels.

    Shrikumar et al., "Not just a black box", 2016.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].

    Returns:
        (B, H, W), negative where a pixel speaks against the score. Black pixels get 0.
    """
    return jnp.sum(images * pixel_gradients(network, score, images), -1)


def integrated_gradients(
    network: Network,
    score: Score,
    images: Images,
    *,
    steps: int = 50,
    baseline: Baseline = "black",
) -> Maps:
    """Average the gradient on the way from a baseline to the image, times their difference.

    Sundararajan et al., "Axiomatic attribution for deep networks", 2017. A map sums to the score of
    the image less that of the baseline (completeness), up to the error of the integration by
    Gauss-Legendre quadrature.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].
        steps: points of the way at which gradients are taken.
        baseline: what the way starts from, see `baseline_images`.

    Returns:
        (B, H, W), negative where a pixel speaks against the score, summed over channels.

    Raises:
        InputError: `steps` is below 1, or the baseline is unknown.
    """
    check_count(steps, "steps")
    start = baseline_images(images, baseline)
    points, weights = np.polynomial.legendre.leggauss(steps)
    way = np.stack([(points + 1) / 2, weights / 2], 1).astype(images.dtype)

    def add(total: Images, point: Array) -> tuple[Images, None]:
        at = start + point[0] * (images - start)
        return total + point[1] * pixel_gradients(network, score, at), None

    average, _ = jax.lax.scan(add, jnp.zeros_like(images), jnp.asarray(way))
    return jnp.sum((images - start) * average, -1)


def smooth_grad(
    network: Network,
    score: Score,
    images: Images,
    keys: Key[Array, " batch"],
    *,
    samples: int = 50,
    noise: float = 0.15,
) -> Maps:
    """Average the gradients of noisy copies; take the largest absolute average of the channels.

    Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].
        keys: (B,) one per image.
        samples: noisy copies of each image.
        noise: standard deviation of the noise as a share of the image's range of values.

    Returns:
        (B, H, W) at least 0.

    Raises:
        InputError: `samples` is below 1, or `noise` below 0.
    """
    check_count(samples, "samples")
    if noise < 0:
        raise InputError(f"noise is {noise}; it must be at least 0")
    axes = (1, 2, 3)
    spread = jnp.max(images, axes, keepdims=True) - jnp.min(images, axes, keepdims=True)

    def add(total: Images, number: Array) -> tuple[Images, None]:
        draws = jax.vmap(
            lambda key: jax.random.normal(jax.random.fold_in(key, number), images.shape[1:])
        )
        noisy = images + jnp.float32(noise) * spread * draws(keys)
        return total + pixel_gradients(network, score, noisy), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(images), jnp.arange(samples, dtype=jnp.uint32))
    return jnp.max(jnp.abs(total / samples), -1)
