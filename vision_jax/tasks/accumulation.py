"""Computing a batch's gradient in less memory: part by part, or some of it twice."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vision_jax.data.loader import Batch
from vision_jax.errors import InputError
from vision_jax.models import layers
from vision_jax.ops import block_length
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.state import Metrics

# Pixels per part on a CPU: the maps of a stage of 32 channels then take 4 MB. Each part reads all
# weights, which is worth it from a few images on.
_PIXELS = 1 << 15


_IMAGES = 4


Gradients = Callable[[Any, Batch, Array], tuple[Any, Metrics, Any]]
"""(batch statistics, part of the batch, its place) -> (gradient, metrics, new statistics)."""


def accumulate(
    gradients: Gradients, stats: Any, batch: Batch, parts: int | None
) -> tuple[Any, Metrics, Any]:
    """Add up gradients over the parts of this device's batch, one after the other.

    Args:
        gradients: of the sum over a part, divided by what belongs to the whole batch. A part's
            place counts the parts of all devices.
        stats: the batch statistics, which each part hands to the next.
        batch: arrays (B, ...).
        parts: how many of B / parts examples each. None: one; but where a CPU runs a network
            without batch statistics, as many as let a part's maps stay in its cache.

    Returns:
        The sums of the gradients and of the metrics, and the last statistics.

    Raises:
        InputError: B is no multiple of the parts.
    """

    def run(parts: int) -> Callable[[Any, Batch], tuple[Any, Metrics, Any]]:
        return lambda stats, batch: _accumulate(gradients, stats, batch, parts)

    if parts is not None:
        return run(parts)(stats, batch)
    cached = 1 if jax.tree.leaves(stats) else _cached_parts(batch["image"].shape)
    if cached == 1:
        return run(1)(stats, batch)
    return jax.lax.platform_dependent(stats, batch, cpu=run(cached), default=run(1))


def _cached_parts(shape: tuple[int, ...]) -> int:
    """Parts of images (B, H, W, C) that suit a CPU's cache."""
    count, height, width, _ = shape
    length = block_length(count, max(_IMAGES, _PIXELS // (height * width)))
    return 1 if count % length else count // length


def _accumulate(
    gradients: Gradients, stats: Any, batch: Batch, parts: int
) -> tuple[Any, Metrics, Any]:
    first = jax.lax.axis_index(AXIS) * parts
    if parts == 1:
        return gradients(stats, batch, first)
    rows = len(batch["mask"])
    if rows % parts:
        raise InputError(
            f"a device's batch is {rows}; it must be a multiple of accumulate, {parts}"
        )
    # A loop within the step, not optax.MultiSteps: steps, schedules and averages then all count
    # updates, and a checkpoint never holds half a gradient.
    split = jax.tree.map(lambda x: x.reshape(parts, rows // parts, *x.shape[1:]), batch)

    def add(carry: Any, item: Any) -> tuple[Any, None]:
        sums, stats = carry
        *more, stats = gradients(stats, *item)
        return (jax.tree.map(jnp.add, sums, tuple(more)), stats), None

    part = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(gradients, stats, part, first)[:2]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    places = first + jnp.arange(parts, dtype=jnp.int32)
    ((grads, metrics), stats), _ = jax.lax.scan(add, (zeros, stats), (split, places))
    return grads, metrics, stats


def rematerialize(function: Callable[..., Any], enabled: bool) -> Callable[..., Any]:
    """Trade computation for memory in the backward pass (Chen et al., 2016).

    Args:
        function: a differentiable function through a network.
        enabled: whether to do so.

    Returns:
        The function; only the outputs of the model's stages are kept for the backward pass, and
        what lies between them is recomputed.
    """
    if not enabled:
        return function
    return jax.checkpoint(
        function, policy=jax.checkpoint_policies.save_only_these_names(layers.STAGE)
    )
