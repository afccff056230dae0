"""A function of many rows: in parts, on all devices, with a progress bar."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array

from vision_jax.bars import tqdm
from vision_jax.data.loader import padded, to_float
from vision_jax.data.sources import Source
from vision_jax.parallel.threads import map_in_order
from vision_jax.run.data import row_chunks
from vision_jax.run.views import averaged
from vision_jax.training.steps import DataParallel

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

Function = Callable[[Any, tuple[Array, ...]], Array]
"""A function of a state and rows, `(state, (rows, *extras)) -> results`, one result per row."""


class RowMap:
    """Maps functions of a run's state over rows: each compiled once, memory flat.

    Args:
        state: the state, on every device.
        parallel: the devices.
        sizes: gives how many rows are computed at a time, largest first; each is compiled once.
    """

    def __init__(
        self, state: Any, parallel: DataParallel, sizes: Callable[[], tuple[int, ...]]
    ) -> None:
        self._state, self._parallel, self._sizes = state, parallel, sizes
        self._mapped: dict[Hashable, Any] = {}  # pmap compiles anew for every new function

    def parts(
        self,
        function: Function,
        rows: np.ndarray | Source,
        verb: str,
        extras: Sequence[np.ndarray] = (),
        name: Hashable = None,
        views: int = 1,
        shown: bool = True,
    ) -> Iterator[np.ndarray]:
        """Apply a function to many rows, and give the results part by part, in order.

        Args:
            function: the function; compiled once for each name.
            rows: (N, ...) images or latents, or a source, which is read as the parts are taken.
            verb: what the progress bar says.
            extras: (N, ...) more rows.
            name: what tells functions apart; `verb` by default.
            views: how many views of the rows, which are images, to average; see `take_views`.
            shown: whether there is a progress bar.

        Returns:
            The results of the next rows, one part after the other; one that is empty without rows.
        """
        name = name or verb
        if not len(rows):
            return iter([map_no_rows(function, self._state, rows, extras)])
        mapped, state = averaged(self.compiled(name, function), views), self._state

        def compute(chunk: tuple[tuple[np.ndarray, ...], int]) -> tuple[np.ndarray, int]:
            part, count = chunk
            return mapped(state, part)[:count], count

        # Finding the sizes traces the network, and one row needs only the smallest.
        sizes = (self._parallel.count,) if len(rows) == 1 else self._sizes()
        chunks = _with_extras(row_chunks(rows, sizes), extras)
        lanes = self._parallel.lanes
        return map_parts(compute, chunks, len(rows), lanes=lanes, verb=verb, shown=shown)

    def compiled(self, name: Hashable, function: Function) -> Callable[[Any, Any], np.ndarray]:
        """Spread a function of rows over the devices, once for each name.

        Args:
            name: what tells functions apart.
            function: `(state, rows) -> results`, see `DataParallel.map_images`.
        """
        if name not in self._mapped:
            self._mapped[name] = self._parallel.map_images(function)
        mapped: Callable[[Any, Any], np.ndarray] = self._mapped[name]
        return mapped


def on_pixels(function: Callable[..., Array]) -> Function:
    """Make a function of float images, and what goes with them, one of uint8 images too."""

    def of_pixels(state: Any, rows: tuple[Array, ...]) -> Array:
        pixels, *extras = rows
        pixels = to_float(pixels) if pixels.dtype == np.uint8 else pixels
        return function(state, pixels, *extras)

    return of_pixels


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
    shown: bool = True,
) -> Iterator[_Result]:
    """Give what a function returns for each part, in order, with a progress bar.

    Args:
        function: a part to its result, and how many of the total are in it.
        parts: at least one.
        total: of all parts.
        lanes: parts to compute at a time.
        verb: what the progress bar says.
        unit: what the total counts.
        shown: whether there is a bar.
    """
    # The first alone, since calls at once would each compile.
    first = function(next(parts))
    bar = tqdm(total=total, desc=verb, unit=unit, delay=2, leave=False, disable=not shown)
    with bar:
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
