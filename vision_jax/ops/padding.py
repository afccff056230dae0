"""Padding as users write it, checked and resolved to pixels."""

from collections.abc import Sequence

from jax import lax

from vision_jax.ops.cpu.xla import Padding, Pair

PaddingLike = str | Sequence[tuple[int, int]]


def check_name(padding: str) -> None:
    """Refuse a padding of an unknown name."""
    if padding not in ("SAME", "VALID"):
        raise ValueError(
            f'padding is {padding!r}, needs "SAME", "VALID" or ((top, bottom), (left, right))'
        )


def pads_in_pixels(
    name: str, size: Sequence[int], window: Sequence[int], strides: Pair, padding: PaddingLike
) -> Padding:
    """Resolve a padding to pixels, checked to leave room for one window."""
    if isinstance(padding, str):
        check_name(padding)
        pairs = lax.padtype_to_pads(size, window, strides, padding)
    else:
        pairs = list(padding)
        if [len(pair) for pair in pairs] != [2, 2]:
            raise ValueError(f"{name}: padding is {padding}, needs two pairs")
    if any(n + sum(p) < k for n, p, k in zip(size, pairs, window, strict=True)):
        raise ValueError(
            f"{name}: window is {tuple(window)}, needs to fit the image of {tuple(size)} "
            f"padded by {tuple(pairs)}"
        )
    (top, bottom), (left, right) = pairs
    return ((int(top), int(bottom)), (int(left), int(right)))
