"""Exact search of a gallery that is spread over devices and processes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from vision_jax.parallel.devices import AXIS, Devices
from vision_jax.search.similarity import masked_top_k, normalize


class ShardedGallery:
    """A gallery of which every device holds an equal, contiguous part.

    A search finds the k best of every part on its device; one gathering brings these few together,
    and every device merges them. The answer does not depend on the number of devices.

    Args:
        vectors: (M, D), the rows `start` to `start + M` that `local_rows` assigns to this process:
            any scale, neither zero nor NaN nor infinite.
        total: N, how many rows there are over all processes.
        parallel: The devices of all processes.

    Raises:
        ValueError: for another number of rows than this process should hold, or vectors without
            direction.
    """

    def __init__(
        self, vectors: Float[np.ndarray, "rows dim"], *, total: int, parallel: Devices
    ) -> None:
        rows = np.asarray(vectors, np.float32)
        expected = local_rows(total, parallel)
        if len(rows) != len(expected):
            raise ValueError(
                f"this process holds rows {expected.start} to {expected.stop}: "
                f"need {len(expected)} vectors, got {len(rows)}"
            )
        bad = np.flatnonzero(~np.isfinite(rows).all(1) | ~rows.any(1))
        if len(bad):
            raise ValueError(f"zero, NaN or infinite vectors have no cosine: rows {bad[:10]}")
        self._parallel = parallel
        self._each = _rows_each(total, parallel)
        held = self._each * parallel.count // parallel.process[1]
        self._rows = parallel.shard(np.pad(rows, ((0, held - len(rows)), (0, 0))))
        self._filled = parallel.shard(np.arange(held) < len(rows))
        self._compiled: dict[int, Callable[..., Any]] = {}

    def search(
        self, queries: Float[np.ndarray, "queries dim"], k: int
    ) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
        """Find each query's k most similar rows among all parts, exactly.

        Every process calls this with the same queries and gets the same answer.

        Args:
            queries: (Q, D), any scale but zero.
            k: At least 1.

        Returns:
            `(scores, ids)`, both (Q, k), float32 and int64 global row numbers: best first, ties by
            the lower id, missing places -inf and -1.

        Raises:
            ValueError: for a wrong width or k below 1.
        """
        width = self._rows.shape[-1]
        if queries.shape[1] != width:
            raise ValueError(f"the gallery holds vectors of width {width}, got {queries.shape}")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")

        def part(queries: Array, rows: Array, filled: Array) -> tuple[Array, Array, Array]:
            _, places = masked_top_k(queries, rows, filled[None], k)
            scores = _scores(queries, rows, places)
            device = jnp.full_like(places, lax.axis_index(AXIS))
            return _best(scores, device, places, k)

        if k not in self._compiled:
            self._compiled[k] = self._parallel.over_parts(part, 2)
        answer = self._compiled[k](np.asarray(queries, np.float32), self._rows, self._filled)
        scores, device, places = (np.asarray(part) for part in answer)
        return scores, np.where(places < 0, -1, device.astype(np.int64) * self._each + places)


def local_rows(total: int, parallel: Devices) -> range:
    """Say which rows of a gallery of `total` this process must hold."""
    index, count = parallel.process
    held = _rows_each(total, parallel) * parallel.count // count
    return range(min(total, index * held), min(total, (index + 1) * held))


def _rows_each(total: int, parallel: Devices) -> int:
    return max(1, -(-total // parallel.count))


def _scores(queries: Array, rows: Array, places: Array) -> Array:
    """Score found rows in one way, whatever way they were found in.

    Parts of other sizes are searched in other ways, which round differently.
    """

    def one(args: tuple[Array, Array]) -> Array:
        query, places = args
        # Not a matrix product, whose last rows may be rounded in another order than the first.
        cosines = jnp.sum(normalize(rows[jnp.maximum(places, 0)]) * query, axis=1)
        return jnp.where(places >= 0, cosines, -jnp.inf)

    return lax.map(one, (normalize(queries), places))


def _best(scores: Array, device: Array, places: Array, k: int) -> tuple[Array, Array, Array]:
    """Gather the best of every device and keep the k best of all, ties by device and place."""
    order = lax.sort((-scores, places, device), num_keys=2)
    scores, places, device = (lax.all_gather(part, AXIS) for part in (-order[0], *order[1:]))

    def flat(parts: Array) -> Array:
        return jnp.moveaxis(parts, 0, 1).reshape(parts.shape[1], -1)

    best, at = lax.top_k(flat(scores), k)
    owner, place = (jnp.take_along_axis(flat(part), at, axis=1) for part in (device, places))
    return best, owner, place
