"""Queries in parts of few sizes, so that few shapes are compiled."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

LARGEST = 512
LARGEST_ON_ACCELERATORS = 4096
QUERY_SIZES = {
    **{LARGEST_ON_ACCELERATORS: 3073, LARGEST: 385, 128: 49},
    **{48: 25, 24: 21, 20: 17, 16: 2, 1: 1},
}
"""Sizes of a part, and from how many queries left on each is taken."""


def largest_on(device: jax.Device) -> int:
    """Return the largest part that suits a device: a CPU's fits its cache."""
    return LARGEST if device.platform == "cpu" else LARGEST_ON_ACCELERATORS


def in_parts(
    search: Callable[[slice, int], Sequence[Any]],
    queries: int,
    *,
    largest: int = LARGEST,
    threads: int = 1,
) -> list[np.ndarray]:
    """Search for queries part by part and join the results.

    Args:
        search: Takes which queries, and with how many rows to pad them; returns arrays with one
            row per query.
        queries: How many there are, at least 1.
        largest: The largest part, one of `QUERY_SIZES`.
        threads: How many parts to work on at once.

    Returns:
        The arrays, without the padding.
    """

    def one(place: tuple[int, int]) -> list[np.ndarray]:
        start, size = place
        stop = min(start + size, queries)
        return [np.asarray(part) for part in search(slice(start, stop), start + size - stop)]

    parts = _parts(queries, largest)
    if len(parts) == 1 or threads == 1:  # threads would only cost their start
        results = [one(part) for part in parts]
    else:
        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(one, parts))
    return [np.concatenate(column)[:queries] for column in zip(*results, strict=True)]


def pad_rows(rows: np.ndarray, short: int) -> np.ndarray:
    """Append rows of zeros."""
    return np.pad(rows, ((0, short), *((0, 0),) * (rows.ndim - 1)))


def _parts(count: int, largest: int) -> list[tuple[int, int]]:
    """Cut queries into (start, size), little padded."""
    parts, start = [], 0
    while start < count:
        left = count - start
        sizes = (size for size, least in QUERY_SIZES.items() if left >= least and size <= largest)
        parts.append((start, next(sizes)))
        start += parts[-1][1]
    return parts
