"""Arrays split over the devices, which may be of any shape and number of elements."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from vision_jax.parallel.devices import AXIS


def parts(leaf: Shaped[Array, "..."], count: int) -> Shaped[Array, "parts ..."]:
    """Split an array into parts of equal size, the last padded with zeros.

    Args:
        leaf: an array of any shape.
        count: how many parts.

    Returns:
        (count, ceil(size / count), 1, ...). A part has as many axes as the array, which tell
        kernels from biases; one has an axis more than a number.
    """
    flat = jnp.pad(leaf.reshape(-1), (0, -leaf.size % count))
    return flat.reshape(count, -1, *(1,) * (leaf.ndim - 1))


def own_part(leaf: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Return this device's part of an array that is whole on each; under the axis `AXIS`."""
    return parts(leaf, jax.lax.axis_size(AXIS))[jax.lax.axis_index(AXIS)]


def whole(part: Shaped[Array, "..."], like: Any) -> Shaped[Array, "..."]:
    """Bring the parts of all devices together; under the axis `AXIS`.

    Args:
        part: this device's.
        like: an array, or anything with the `size` and `shape` of the whole.
    """
    return jax.lax.all_gather(part, AXIS).reshape(-1)[: like.size].reshape(like.shape)


def can_lay_out(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an array of one shape may hold the elements of another in other parts.

    The two differ by padding alone, which is less than an element for each part.

    Args:
        found: shape of a whole array or of `parts`.
        wanted: likewise.
    """
    if max(len(found), len(wanted)) < 2:  # a number, or one for each part
        return True
    most = max(*found[:1], *wanted[:1], 1)
    return abs(math.prod(found) - math.prod(wanted)) < most


def laid_out(rows: Shaped[np.ndarray, "..."], shape: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
    """Lay out an array, whole or in `parts`, in other parts or as a whole.

    Args:
        rows: the array. A vector holds the same number for each part.
        shape: of the result; see `can_lay_out`.
    """
    if rows.shape == shape:
        return rows
    if max(rows.ndim, len(shape)) < 2:
        return np.broadcast_to(rows.reshape(-1)[:1].reshape((1,) * len(shape)), shape)
    size = math.prod(shape)
    flat = rows.reshape(-1)[:size]
    return np.pad(flat, (0, size - len(flat))).reshape(shape)
