"""The ids of an index: which slot holds which."""

import numpy as np
from jaxtyping import Bool, Int

from vision_jax.errors import InputError
from vision_jax.search import arrays

Ids = Int[np.ndarray, " ids"]
Slots = Int[np.ndarray, " slots"]


class SlotTable:
    """The id of each filled slot, and which of them are still present.

    Slots fill in the order of adding; removed ones stay as gaps until `keep`.

    Attributes:
        live: For each filled slot, whether its vector is present.
        next: The id that follows the highest one ever added.
    """

    def __init__(self) -> None:
        self._ids = np.zeros(0, np.int64)  # of every filled slot, removed ones included
        self.live: Bool[np.ndarray, " filled"] = np.zeros(0, bool)
        self.next = 0
        self._ascending = True  # then slots are in the order of ids
        self._count = 0
        self._by_id: tuple[Ids, Slots] | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def ids(self) -> Ids:
        """The ids present, in the order they were added."""
        return self._ids[self.live]

    @property
    def slots(self) -> Slots:
        """The slots of the ids present, in the order they were added."""
        return np.flatnonzero(self.live)

    @property
    def by_id(self) -> tuple[Ids, Slots]:
        """The ids present, ascending, and their slots."""
        if self._by_id is None:
            slots = self.slots
            held = self._ids[slots]
            if not self._ascending:
                order = np.argsort(held)
                slots, held = slots[order], held[order]
            self._by_id = held, slots
        return self._by_id

    @property
    def order(self) -> Int[np.ndarray, " ids"] | None:
        """Where each of the ids, ascending, stands in `ids`; None if these ascend as well."""
        return None if self._ascending else np.searchsorted(self.slots, self.by_id[1])

    def add(self, new: Ids) -> None:
        """Give ids to the slots that were just filled."""
        if len(new):
            steps = np.diff(np.concatenate([self._ids[-1:], new]))
            self._ascending &= bool((steps > 0).all())
            self.next = max(self.next, int(new.max()) + 1)
        self._ids = np.concatenate([self._ids, new])
        self.live = np.concatenate([self.live, np.ones(len(new), bool)])
        self._count += len(new)
        self._by_id = None

    def remove(self, slots: Slots) -> None:
        """Remove what these slots hold."""
        self.live[slots] = False
        self._count = int(np.count_nonzero(self.live))
        self._by_id = None

    def keep(self) -> Slots:
        """Renumber the slots of the ids present from 0, and return which ones they were."""
        kept = self.slots
        self._ids, self.live = self._ids[kept], np.ones(len(kept), bool)
        self._by_id = None
        return kept

    def find(self, ids: Ids) -> Slots:
        """Return the slots of ids.

        Raises:
            InputError: If an id is not present.
        """
        return self.by_id[1][self.places(ids)]

    def places(self, ids: Ids) -> Int[np.ndarray, " ids"]:
        """Return where ids stand among the ids present, ascending.

        Raises:
            InputError: If an id is not present.
        """
        places = self.locate(ids)
        if (places < 0).any():
            raise InputError(f"ids are not in the index: {arrays.first(ids[places < 0])}")
        return places

    def check_new(self, ids: Ids, count: int) -> None:
        """Refuse ids that cannot be given to `count` new vectors.

        Raises:
            InputError: If they are not `count`, or one is repeated, negative or present.
        """
        if ids.shape != (count,):
            raise InputError(f"ids has shape {ids.shape}; {count} ids are needed")
        values, counts = np.unique(ids, return_counts=True)
        faults = {
            "repeated": values[counts > 1],
            "already present": values[self.locate(values) >= 0],
            "negative": values[values < 0],
            "too large": values[values == np.iinfo(np.int64).max],  # the next would not fit
        }
        for fault, which in faults.items():
            if len(which):
                raise InputError(
                    f"ids must be distinct, new and in [0, 2**63 - 1): {len(which)} {fault}: "
                    f"{arrays.first(which)}"
                )

    def locate(self, ids: Ids) -> Int[np.ndarray, " ids"]:
        """Return where ids stand among the ids present, ascending; -1 if not present."""
        held = self.by_id[0]
        if not len(held):
            return np.full(len(ids), -1)
        places = np.minimum(np.searchsorted(held, ids), len(held) - 1)
        return np.where(held[places] == ids, places, -1)
