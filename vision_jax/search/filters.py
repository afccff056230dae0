"""Filters: which vectors a search may find, as callers say it and as a mask."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Int, Shaped

from vision_jax.errors import InputError
from vision_jax.search import arrays

Where = Shaped[Array | np.ndarray, "..."] | Sequence[Any]
"""A filter: a boolean mask (N,) or (Q, N), a list of ids, or Q lists of ids."""


def to_mask(
    where: Where,
    queries: int,
    count: int,
    find: Callable[[Int[np.ndarray, " ids"]], Int[np.ndarray, " places"]],
    order: Int[np.ndarray, " items"] | None = None,
) -> Bool[np.ndarray, "masks items"]:
    """Turn a filter into a mask.

    Args:
        where: Booleans are a mask, (N,), (1, N) or (Q, N); integers are ids, one list or Q lists.
        queries: Q.
        count: N, how many vectors there are.
        find: Maps ids to places in [0, N), and raises an `InputError` for an unknown one.
        order: (N,) which column of a mask each place is; by default they are in the same order.

    Returns:
        (1, N) or (Q, N).

    Raises:
        InputError: If `where` is something else or has another shape.
    """
    rows = _rows(where)
    if rows is None:
        rows = [("where", where)]
    elif len(rows) not in (1, queries):
        raise InputError(
            f"where has {len(rows)} rows; one row, or one for each of the {queries} queries, "
            "is needed"
        )
    mask = np.zeros((len(rows), count), bool)
    for row, (name, allowed) in zip(mask, rows, strict=True):
        values = arrays.plain(name, allowed, _NEEDED)
        if values.dtype == bool and values.shape == (count,):
            row[:] = values if order is None else values[order]
        elif values.ndim == 1 and (values.dtype.kind in "iu" or not len(values)):
            row[find(arrays.integers(name, values))] = True
        elif values.dtype == bool:
            raise InputError(
                f"{name} is a mask of shape {values.shape}; ({count},) or ({queries}, {count}) "
                "is needed"
            )
        else:
            raise InputError(f"{name} is {arrays.describe(values)}; {_NEEDED}")
    return mask


_NEEDED = "a mask of booleans or a list of integer ids is needed, for all queries or for each"


def _rows(where: Any) -> list[tuple[str, Any]] | None:
    """Take a filter for each query apart; None if there is one for all."""
    if hasattr(where, "dtype"):
        nested = where.ndim > 1
    else:
        nested = isinstance(where, list | tuple) and any(
            isinstance(part, list | tuple | range) or getattr(part, "ndim", 0) for part in where
        )
    return [(f"where[{i}]", row) for i, row in enumerate(where)] if nested else None
