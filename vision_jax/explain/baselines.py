"""Images without evidence, which gradients and perturbations compare an image with."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision_jax.checked import check_choice
from vision_jax.errors import InputError

Images = Float[Array, "batch height width channels"]
Baseline = str | float | Sequence[float] | Any
"""A name of `BASELINES`, a grey level or colour in [0, 1], or images of the same shape."""


def baseline_images(images: Images, baseline: Baseline) -> Images:
    """Make the baseline of each image.

    Args:
        images: (B, H, W, C) in [0, 1].
        baseline: "black", "white", "mean" (the image's mean colour), "blur" (the image without its
            detail), a grey level or a colour of C values in [0, 1], or an array (H, W, C) or
            (B, H, W, C) in [0, 1] or uint8.

    Returns:
        (B, H, W, C).

    Raises:
        InputError: an unknown name, an array of another shape, or a value out of range.
    """
    if isinstance(baseline, str):
        return BASELINES[check_choice(baseline, tuple(BASELINES), "baseline")](images)
    if not isinstance(baseline, jax.core.Tracer):
        baseline = _in_range(np.asarray(baseline))
    values = jnp.asarray(baseline, images.dtype)
    _check_shape(values.shape, images.shape)
    return jnp.broadcast_to(values, images.shape)


def baseline_rows(
    baseline: Any, shape: tuple[int, int, int, int]
) -> Float[np.ndarray, "images height width channels"]:
    """Give each image its row of a baseline of images, in no more memory than that takes.

    Args:
        baseline: (H, W, C) for all images, or (N, H, W, C), in [0, 1] or uint8.
        shape: (N, H, W, C) of the images.

    Raises:
        InputError: an array of another shape, or a value out of range.
    """
    values = _in_range(np.asarray(baseline)).astype(np.float32)
    _check_shape(values.shape, shape)
    return np.broadcast_to(values, shape)


def _check_shape(found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    image = shape[1:]
    if found not in ((), image[-1:], image, (1, *image), shape):
        raise InputError(
            f"baseline has shape {found}; a name ({', '.join(BASELINES)}), a number, "
            f"{image[-1]} values or an image {image} is needed"
        )


def _in_range(baseline: np.ndarray) -> np.ndarray:
    if baseline.dtype == np.uint8 and baseline.ndim > 1:
        return baseline.astype(np.float32) / 255
    if not ((baseline >= 0) & (baseline <= 1)).all():  # as of NaN
        raise InputError(
            f"baseline is from {baseline.min()} to {baseline.max()}; values in [0, 1] are needed, "
            "or an image of uint8"
        )
    return baseline


def _blur(images: Images) -> Images:
    """Blur by a Gaussian whose standard deviation is an eighth of each side."""
    rows, columns = (jnp.asarray(_gaussian(side), images.dtype) for side in images.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, images, columns)


def _gaussian(side: int) -> np.ndarray:
    places = np.arange(side)
    weights = np.exp(-0.5 * ((places[:, None] - places) / max(side / 8, 1e-6)) ** 2)
    return weights / weights.sum(1, keepdims=True)


BASELINES: dict[str, Callable[[Array], Array]] = {
    "black": jnp.zeros_like,
    "white": jnp.ones_like,
    "mean": lambda images: jnp.broadcast_to(jnp.mean(images, (1, 2), keepdims=True), images.shape),
    "blur": _blur,
}
"""Baselines by name, each a function of images (B, H, W, C)."""
