"""Exact search of a gallery that is spread over devices."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from vision_jax.parallel.devices import AXIS, Devices
from vision_jax.search.batching import LARGEST, in_parts, largest_on, pad_rows
from vision_jax.search.by_platform import search
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.joined import Taken
from vision_jax.search.kernel import Rows
from vision_jax.search.protocol import Found
from vision_jax.search.similarity import masked_top_k, normalize


def build(rows: DeviceRows, slots: Int[np.ndarray, " items"]) -> "Sharded":
    """Build the method over all devices of this process; see `protocol.Build`."""
    values, scale = rows.readable(slots)
    devices = Devices(tuple(jax.local_devices()))
    return Sharded(values, devices, None if rows.dtype == "float32" else scale)


class Sharded:
    """A gallery of which every device holds an equal, contiguous part.

    Each device finds the k best of its part; these few are gathered at once and merged. The answer
    does not depend on the number of devices.

    Args:
        values: (N, D) float32, bfloat16 or int8, each with a direction. Each device's part is
            read by itself, so that none but that is ever placed there.
        devices: The devices, all of this process.
        scale: (N,) float32, positive: row i stands for `scale[i] * values[i]`, of length 1. By
            default rows are float32 and of any length.
    """

    def __init__(
        self,
        values: Shaped[np.ndarray, "items dim"] | Taken,
        devices: Devices,
        scale: Float[np.ndarray, " items"] | None = None,
    ) -> None:
        self._count, self._devices = len(values), devices
        self._each = max(1, -(-len(values) // devices.count))
        self._rows = [self._spread(values)]
        if scale is not None:
            self._rows.append(self._spread(scale[:, None]))
        self._filled = self._spread(np.ones((len(values), 1), bool))

    def search(
        self,
        queries: Float[np.ndarray, "queries dim"],
        k: int,
        where: Bool[np.ndarray, "masks items"] | None = None,
    ) -> Found:
        """Find the k nearest vectors of each query; see `protocol.Method`."""
        shared = self._filled if where is None or len(where) > 1 else self._spread(where.T)
        function = _compiled(self._devices, k, len(self._rows))

        def find(part: slice, short: int) -> Sequence[Any]:
            allowed = shared
            if where is not None and len(where) > 1:
                allowed = self._spread(pad_rows(where[part], short).T)
            found: Sequence[Any] = function(pad_rows(queries[part], short), allowed, *self._rows)
            return found

        # Masks of their own are as large as the gallery, per query.
        each = where is not None and len(where) > 1
        largest = LARGEST if each else largest_on(self._devices.devices[0])
        scores, device, places = in_parts(find, len(queries), largest=largest)
        return scores, np.where(places < 0, -1, device.astype(np.int64) * self._each + places)

    def _spread(self, rows: np.ndarray | Taken) -> Any:
        return self._devices.place(rows, self._each)


# Kept beyond an index's change: what pmap makes anew it compiles anew.
@lru_cache(maxsize=64)
def _compiled(devices: Devices, k: int, parts: int) -> Callable[..., Any]:
    def part(
        queries: Array, allowed: Array, values: Array, scale: Array | None = None
    ) -> tuple[Array, Array, Array]:
        if scale is None:
            _, places = masked_top_k(queries, values, allowed.T, k)
        else:
            rows = Rows(values, scale[:, 0])
            _, places = search(normalize(queries), rows, allowed.T, values.shape[0], k)
        return _best(_scores(queries, values, scale, places), places, k)

    return devices.over_parts(part, 1 + parts)


def _scores(queries: Array, values: Array, scale: Array | None, places: Array) -> Array:
    """Score found rows in one way, whatever way they were found in.

    Parts of other sizes are searched in other ways, which round differently.
    """

    def one(query: Array, places: Array) -> Array:
        at = jnp.maximum(places, 0)
        rows = values[at] if scale is None else values[at].astype(jnp.float32) * scale[at]
        # Not a matrix product, whose last rows may be rounded in another order than the first.
        cosines = jnp.sum(normalize(rows) * query, axis=1)
        return jnp.where(places >= 0, cosines, -jnp.inf)

    def in_turn(queries: Array, places: Array) -> Array:
        return lax.map(lambda args: one(*args), (queries, places))

    scores: Array = lax.platform_dependent(
        normalize(queries), places, cpu=in_turn, default=jax.vmap(one)
    )
    return scores


def _best(scores: Array, places: Array, k: int) -> tuple[Array, Array, Array]:
    """Gather the best of every device and keep the k best of all, ties by device and place.

    Returns:
        Scores, devices and places on these, all (Q, k).
    """
    order = lax.sort((-scores, places), num_keys=2)
    own = jnp.stack([lax.bitcast_convert_type(-order[0], jnp.int32), order[1]])
    shared = lax.all_gather(own, AXIS)  # 8 bytes per query, place and device

    def flat(parts: Array) -> Array:
        return jnp.moveaxis(parts, 0, 1).reshape(parts.shape[1], -1)

    every = flat(lax.bitcast_convert_type(shared[:, 0], jnp.float32))
    best, at = lax.top_k(every, k)
    return best, at // k, jnp.take_along_axis(flat(shared[:, 1]), at, axis=1)
