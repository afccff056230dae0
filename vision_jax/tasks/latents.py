"""Sample and interpolate latent vectors."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Interpolation = Literal["spherical", "linear"]


def sample_latents(key: Key[Array, ""], count: int, size: int) -> Float[Array, "count size"]:
    """Draw latents from a standard normal, the prior of GANs and variational autoencoders.

    Args:
        key: random key; with one key, a smaller `count` gives the first rows of a larger one.
        count: number of latents.
        size: dimension of each.

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
    method: Interpolation = "spherical",
) -> Float[Array, "pairs steps size"]:
    """Interpolate between pairs of latents in even steps.

    Args:
        start: (P, D) first points.
        stop: (P, D) last points.
        steps: number of points per pair, both ends included; at least 2.
        method: `spherical` keeps the norms typical of a normal prior (White, "Sampling generative
            networks", 2016); `linear` suits codes without a prior.

    Returns:
        (P, steps, D).

    Raises:
        ValueError: the shapes differ, or `steps` is below 2.
    """
    if start.shape != stop.shape:
        raise ValueError(f"stop has shape {stop.shape}; it must be start's, {start.shape}")
    if steps < 2:
        raise ValueError(f"steps is {steps}; it must be at least 2")
    t = jnp.linspace(0.0, 1.0, steps, dtype=start.dtype)[None, :, None]
    a, b = start[:, None], stop[:, None]
    if method == "linear":
        return (1 - t) * a + t * b
    norms = jnp.linalg.norm(a, axis=-1, keepdims=True) * jnp.linalg.norm(b, axis=-1, keepdims=True)
    cosine = jnp.sum(a * b, -1, keepdims=True) / jnp.where(norms > 0, norms, 1)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    sine = jnp.sin(angle)
    # Equal and opposite directions have no arc between them: interpolate linearly.
    arc = sine > 1e-3
    safe = jnp.where(arc, sine, 1)
    left = jnp.where(arc, jnp.sin((1 - t) * angle) / safe, 1 - t)
    right = jnp.where(arc, jnp.sin(t * angle) / safe, t)
    return left * a + right * b
