"""Exact search of an index's rows where they lie."""

import numpy as np
from jaxtyping import Bool, Float, Int

from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.protocol import Found


class Exact:
    """Find the true nearest vectors.

    Args:
        rows: The index's rows.
        slots: (N,) the slots of its vectors, in the order of their ids.
    """

    def __init__(self, rows: DeviceRows, slots: Int[np.ndarray, " items"]) -> None:
        self._rows, self._slots = rows, slots
        self._ascending = bool((np.diff(slots) > 0).all())
        self._place = np.zeros(0, np.int64)  # of each slot
        if not self._ascending:
            self._place = np.full(rows.used, -1)
            self._place[slots] = np.arange(len(slots))

    def search(
        self,
        queries: Float[np.ndarray, "queries dim"],
        k: int,
        where: Bool[np.ndarray, "masks items"] | None = None,
    ) -> Found:
        """Find the k nearest vectors of each query; see `protocol.Method`."""
        mask = None
        if where is not None:
            mask = np.zeros((len(where), self._rows.used), bool)
            mask[:, self._slots] = where
        if self._ascending:
            scores, slots = self._rows.search(queries, k, mask)
            return scores, np.where(slots >= 0, np.searchsorted(self._slots, slots), -1)
        # Slots are not in the order of ids: a tie across the k-th place must be seen whole.
        wanted = k + 1
        while True:
            scores, slots = self._rows.search(queries, wanted, mask)
            tied = (scores[:, k - 1] == scores[:, -1]) & (slots[:, -1] >= 0)
            if wanted >= len(self._slots) or not tied.any():
                break
            wanted = min(2 * wanted, len(self._slots))
        places = np.where(slots >= 0, self._place[slots], -1)
        order = np.lexsort((places, -scores), axis=1)
        scores, places = (np.take_along_axis(part, order, 1) for part in (scores, places))
        return scores[:, :k], places[:, :k]
