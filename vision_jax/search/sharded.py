"""Exact search of a gallery that is spread over devices."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vision_jax.parallel.devices import AXIS, Devices
from vision_jax.search.batching import in_parts, pad_rows
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.protocol import Found
from vision_jax.search.similarity import masked_top_k, normalize


def build(rows: DeviceRows, slots: Int[np.ndarray, " items"]) -> "Sharded":
    """Build the method over all devices of this process; see `protocol.Build`."""
    return Sharded(rows.vectors(slots), Devices(tuple(jax.local_devices())))


class Sharded:
    """A gallery of which every device holds an equal, contiguous part.

    Each device finds the k best of its part; these few are gathered and merged. The answer does not
    depend on the number of devices.

    Args:
        vectors: (N, D) float32, each with a direction.
        devices: The devices, all of this process.
    """

    def __init__(self, vectors: Float[np.ndarray, "items dim"], devices: Devices) -> None:
        self._count, self._devices = len(vectors), devices
        self._each = max(1, -(-len(vectors) // devices.count))
        self._rows = self._spread(vectors)
        self._filled = self._spread(np.ones((len(vectors), 1), bool))

    def search(
        self,
        queries: Float[np.ndarray, "queries dim"],
        k: int,
        where: Bool[np.ndarray, "masks items"] | None = None,
    ) -> Found:
        """Find the k nearest vectors of each query; see `protocol.Method`."""
        shared = self._filled if where is None or len(where) > 1 else self._spread(where.T)
        function = _compiled(self._devices, k)

        def find(part: slice, short: int) -> Sequence[Any]:
            allowed = shared
            if where is not None and len(where) > 1:
                allowed = self._spread(pad_rows(where[part], short).T)
            found: Sequence[Any] = function(pad_rows(queries[part], short), self._rows, allowed)
            return found

        scores, device, places = in_parts(find, len(queries))
        return scores, np.where(places < 0, -1, device.astype(np.int64) * self._each + places)

    def _spread(self, rows: np.ndarray) -> Any:
        return self._devices.shard(pad_rows(rows, self._each * self._devices.count - self._count))


# Kept beyond an index's change: what pmap makes anew it compiles anew.
@lru_cache(maxsize=64)
def _compiled(devices: Devices, k: int) -> Callable[..., Any]:
    def part(queries: Array, rows: Array, allowed: Array) -> tuple[Array, Array, Array]:
        _, places = masked_top_k(queries, rows, allowed.T, k)
        scores = _scores(queries, rows, places)
        device = jnp.full_like(places, lax.axis_index(AXIS))
        return _best(scores, device, places, k)

    return devices.over_parts(part, 2)


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
