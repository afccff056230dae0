"""Windows, strides and padding as users write them, checked and resolved to pixels."""

import operator
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

from vision_jax.ops.cpu.xla import Padding, Pair

PairLike = SupportsIndex | Sequence[SupportsIndex]
"""One integer for both directions, or two: vertical and horizontal."""

PaddingLike = str | SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]]
"""A name, pixels on every side, (vertical, horizontal), or ((top, bottom), (left, right))."""


def check_images(name: str, x: Shaped[Array, "..."]) -> None:
    """Refuse images that are not NHWC.

    Args:
        name: The operation, for the message.
        x: Images.

    Raises:
        ValueError: If `x` has not four axes.
    """
    if x.ndim != 4:
        hint = ", of which images[None] adds the first" if x.ndim == 3 else ""
        raise ValueError(
            f"{name}: images are {x.shape}, need (batch, height, width, channels){hint}"
        )


def check_floats(name: str, x: Shaped[Array, "..."]) -> None:
    """Refuse integers, whose sums would overflow.

    Args:
        name: The operation, for the message.
        x: Images.

    Raises:
        ValueError: If `x` holds anything but floating-point numbers.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name}: images are {x.dtype}, need floating-point numbers")


def resolve_pair(name: str, what: str, value: PairLike) -> Pair:
    """Resolve one integer or two to two.

    Args:
        name: The operation, for the message.
        what: The argument, for the message.
        value: What was given.

    Returns:
        Vertical and horizontal, each at least 1.

    Raises:
        ValueError: If `value` is neither one nor two integers of 1 or more.
    """
    pair = _integers(value)
    if pair is None or min(pair) < 1:
        raise ValueError(f"{name}: {what} is {value!r}, needs one or two integers of 1 or more")
    return pair


def resolve_name(name: str, padding: str) -> str:
    """Resolve a padding's name, which Keras writes in lower case.

    Args:
        name: The operation, for the message.
        padding: What was given.

    Returns:
        "SAME" or "VALID".

    Raises:
        ValueError: If it is another name.
    """
    if padding.upper() not in ("SAME", "VALID"):
        raise ValueError(
            f'{name}: padding is {padding!r}, needs "SAME", "VALID", an integer or '
            "((top, bottom), (left, right))"
        )
    return padding.upper()


def resolve_padding(
    name: str,
    size: Sequence[int],
    window: Sequence[int],
    strides: Pair,
    padding: PaddingLike,
) -> Padding:
    """Resolve a padding to pixels, checked to leave room for one window.

    Args:
        name: The operation, for the message.
        size: Height and width of the images.
        window: Height and width of the window.
        strides: Steps between windows.
        padding: What was given. Negative pixels cut the image.

    Returns:
        Pixels to add: ((top, bottom), (left, right)).

    Raises:
        ValueError: If the padding is unknown, cuts away the image, or leaves no room.
    """
    if isinstance(padding, str):
        pairs = lax.padtype_to_pads(size, window, strides, resolve_name(name, padding))
    else:
        pairs = _pairs(name, padding)
    (top, bottom), (left, right) = pairs
    pads = ((int(top), int(bottom)), (int(left), int(right)))
    if any(-min(a, 0) - min(b, 0) >= n > 0 for n, (a, b) in zip(size, pads, strict=True)):
        raise ValueError(
            f"{name}: padding is {pads}, needs to leave a pixel of the image of {tuple(size)}"
        )
    if any(n + sum(p) < k for n, p, k in zip(size, pads, window, strict=True)):
        raise ValueError(
            f"{name}: window is {tuple(window)}, needs to fit the image of {tuple(size)} "
            f"padded by {pads}"
        )
    return pads


def _pairs(name: str, padding: SupportsIndex | Sequence) -> list[Pair]:
    """Resolve a padding given as integers."""
    try:
        axes = [operator.index(padding)] * 2  # type: ignore[arg-type]
    except TypeError:
        axes = list(padding) if isinstance(padding, Iterable) else []
    pairs = [pair for pair in map(_integers, axes) if pair is not None]
    if (len(pairs), len(axes)) != (2, 2):
        raise ValueError(
            f"{name}: padding is {padding!r}, needs a name, one or two integers, or two pairs"
        )
    return pairs


def _integers(value: PairLike) -> Pair | None:
    """Resolve one integer or two to two; return None for anything else."""
    # Not by type: arrays of any shape claim to be an index.
    try:
        values = [operator.index(value)] * 2  # type: ignore[arg-type]
    except TypeError:
        try:
            values = [operator.index(v) for v in value]  # type: ignore[union-attr]
        except TypeError:
            return None
    return (values[0], values[1]) if len(values) == 2 else None
