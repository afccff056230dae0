"""How large a network's maps are."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

# Images in a trace. Weights hardly ever have a multiple of so many rows: what does comes of images.
_IMAGES = 1009


def map_bytes(
    apply: Callable[[Any, jax.Array], Any], state: Any, image_shape: tuple[int, ...]
) -> int:
    """Find how many bytes the largest map of one image takes, without computing it.

    Args:
        apply: `(state, images) -> results`; pure.
        state: its state, or the shapes of one.
        image_shape: (height, width, channels).

    Returns:
        Bytes of the image itself as float32, or of a larger array computed from it.
    """
    images = jax.ShapeDtypeStruct((_IMAGES, *image_shape), np.float32)
    traced = jax.make_jaxpr(apply)(state, images)
    return max([4 * int(np.prod(image_shape)), *_made(traced)])


def _made(traced: Any) -> Iterator[int]:
    """Yield the bytes per image of every array that a trace, or one nested in it, makes."""
    for equation in traced.eqns:
        for variable in equation.outvars:
            shape = getattr(variable.aval, "shape", ())
            if shape and shape[0] % _IMAGES == 0:
                yield int(np.prod(shape)) * variable.aval.dtype.itemsize // _IMAGES
        for value in jax.tree.leaves(tuple(equation.params.values()), is_leaf=_is_trace):
            if _is_trace(value):
                yield from _made(value)


def _is_trace(value: Any) -> bool:
    return hasattr(value, "eqns")
