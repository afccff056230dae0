"""A function of many rows: in parts, on all devices, with a progress bar."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array
from tqdm import tqdm

from vision_jax.data.loader import padded
from vision_jax.data.sources import Source
from vision_jax.parallel.threads import map_in_order
from vision_jax.run.data import row_chunks

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

Function = Callable[[Any, tuple[Array, ...]], Array]
"""A function of a state and rows, `(state, (rows, *extras)) -> results`, one result per row."""


def map_rows(
    mapped: Callable[[Any, Any], np.ndarray],
    state: Any,
    rows: np.ndarray | Source,
    extras: Sequence[np.ndarray],
    sizes: Sequence[int],
    *,
    lanes: int,
    verb: str,
) -> np.ndarray:
    """Apply a function to many rows.

    Args:
        mapped: a `Function`, compiled.
        state: its first argument.
        rows: (N, ...) images or latents, or a source; N above 0.
        extras: (N, ...) more rows.
        sizes: how many rows a part may have, see `row_chunks`.
        lanes: parts to compute at a time.
        verb: what the progress bar says.

    Returns:
        (N, ...) the results.
    """

    def compute(chunk: tuple[tuple[np.ndarray, ...], int]) -> tuple[np.ndarray, int]:
        part, count = chunk
        return mapped(state, part)[:count], count

    chunks = _with_extras(row_chunks(rows, sizes), extras)
    return np.concatenate(list(map_parts(compute, chunks, len(rows), lanes=lanes, verb=verb)))


def _with_extras(
    chunks: Iterator[tuple[np.ndarray, int]], extras: Sequence[np.ndarray]
) -> Iterator[tuple[tuple[np.ndarray, ...], int]]:
    """Put the same rows of others beside parts of rows, padded alike."""
    start = 0
    for part, count in chunks:
        others = (padded(rows[start : start + count], len(part)) for rows in extras)
        yield (part, *others), count
        start += count


def map_parts(
    function: Callable[[_Part], tuple[_Result, int]],
    parts: Iterator[_Part],
    total: int,
    *,
    lanes: int,
    verb: str,
    unit: str = "img",
) -> Iterator[_Result]:
    """Give what a function returns for each part, in order, with a progress bar.

    Args:
        function: a part to its result, and how many of the total are in it.
        parts: at least one.
        total: of all parts.
        lanes: parts to compute at a time.
        verb: what the progress bar says.
        unit: what the total counts.
    """
    # The first alone, since calls at once would each compile.
    first = function(next(parts))
    with tqdm(total=total, desc=verb, unit=unit, delay=2, leave=False) as bar:
        for result, count in chain([first], map_in_order(function, parts, lanes)):
            bar.update(count)
            yield result


def map_no_rows(
    function: Function, state: Any, rows: np.ndarray | Source, extras: Sequence[np.ndarray]
) -> np.ndarray:
    """Return what a function makes of no rows at all.

    Args:
        function: as it is, since nothing is computed.
        state: its first argument.
        rows: (0, ...) images or latents, or a source of none.
        extras: (0, ...) more rows.
    """
    if isinstance(rows, Source):
        rows = np.zeros((0, *rows.image_shape), np.uint8)
    one = [jax.ShapeDtypeStruct((1, *part.shape[1:]), part.dtype) for part in (rows, *extras)]
    made = jax.eval_shape(function, state, tuple(one))
    return np.zeros((0, *made.shape[1:]), made.dtype)
