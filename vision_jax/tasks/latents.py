"""Latent vectors to generate images from."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Way = Literal["spherical", "linear"]


def sample_latents(key: Key[Array, ""], count: int, size: int) -> Float[Array, "count size"]:
    """Draws latents from the standard normal, the prior of the GAN and the variational autoencoder.

    Args:
        key: the source of randomness; a longer draw begins with the shorter one.
        count: how many.
        size: width of each.

    Returns:
        (count, size).
    """
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    return jax.vmap(lambda one: jax.random.normal(one, (size,)))(keys)


def interpolate(
    start: Float[Array, "pairs size"],
    stop: Float[Array, "pairs width"],
    steps: int,
    *,
    way: Way = "spherical",
) -> Float[Array, "pairs steps size"]:
    """Walks from one latent to another in even steps.

    Args:
        start: (P, D) where each walk begins.
        stop: (P, D) where it ends.
        steps: points on each walk, both ends included; at least 2.
        way: `spherical` keeps to the lengths that a normal prior gives (White, "Sampling
            generative networks", 2016); `linear` suits codes that have no prior.

    Returns:
        (P, steps, D).

    Raises:
        ValueError: the shapes differ, or `steps` is below 2.
    """
    if start.shape != stop.shape:
        raise ValueError(f"start and stop have shapes {start.shape} and {stop.shape}; equal needed")
    if steps < 2:
        raise ValueError(f"steps is {steps}; it must be at least 2")
    t = jnp.linspace(0.0, 1.0, steps, dtype=start.dtype)[None, :, None]
    a, b = start[:, None], stop[:, None]
    if way == "linear":
        return (1 - t) * a + t * b
    norms = jnp.linalg.norm(a, axis=-1, keepdims=True) * jnp.linalg.norm(b, axis=-1, keepdims=True)
    cosine = jnp.sum(a * b, -1, keepdims=True) / jnp.where(norms > 0, norms, 1)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    sine = jnp.sin(angle)
    # Along one line there is no arc: neither for equal nor for opposite directions.
    arc = sine > 1e-3
    safe = jnp.where(arc, sine, 1)
    left = jnp.where(arc, jnp.sin((1 - t) * angle) / safe, 1 - t)
    right = jnp.where(arc, jnp.sin(t * angle) / safe, t)
    return left * a + right * b
