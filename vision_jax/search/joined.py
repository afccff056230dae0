"""Arrays of rows that are read where they are, a part at a time."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


class Joined:
    """Arrays of rows one after the other, such as several files', read as one.

    Args:
        parts: (Nᵢ, ...) arrays of one dtype and width, at least one.

    Attributes:
        dtype: Their dtype.
        shape: (N, ...).
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = list(parts)
        self._stops = np.cumsum([len(part) for part in parts])
        self.dtype = parts[0].dtype
        self.shape = (int(self._stops[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Int[np.ndarray, " rows"]) -> np.ndarray:
        at = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        taken = np.empty((len(at), *self.shape[1:]), self.dtype)
        owner = np.searchsorted(self._stops, at, side="right")
        for number in np.unique(owner):
            here, part = owner == number, self._parts[number]
            taken[here] = part[at[here] - (self._stops[number] - len(part))]
        return taken


class Taken:
    """Some rows of an array, read when a slice of them is asked for.

    Args:
        values: (N, ...).
        rows: (M,) which ones.

    Attributes:
        dtype: That of the array.
        shape: (M, ...).
    """

    def __init__(self, values: np.ndarray | Joined, rows: Int[np.ndarray, " rows"]) -> None:
        self._values, self._rows = values, rows
        self.dtype, self.shape = values.dtype, (len(rows), *values.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        rows = self._rows[part]
        if len(rows) and (np.diff(rows) == 1).all():  # a view, where it is of one file
            return self._values[slice(int(rows[0]), int(rows[-1]) + 1)]
        return self._values[rows]
