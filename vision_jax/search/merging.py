"""Join indexes: the vectors of several in one, bit for bit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.index import CosineIndex
from vision_jax.search.index_file import Content


def concatenate(
    indexes: Sequence[CosineIndex],
    kept: Sequence[Int[np.ndarray, " _"]] | None = None,
    *,
    about: Any = None,
) -> CosineIndex:
    """Join the vectors and metadata of indexes; a search finds what searches of each would.

    Args:
        indexes: At least 1, of one width and dtype.
        kept: The ids to keep of each index; all by default.
        about: The note of the new index.

    Returns:
        A new index with ids from 0: those of the first index, in the order they were added, then
        those of the next.

    Raises:
        InputError: If there is no index, widths or dtypes differ, or an id is not present.
    """
    if not indexes:
        raise InputError("there are 0 indexes; at least 1 is needed")
    for index in indexes[1:]:
        first = indexes[0]
        if (index.dim, index.dtype) != (first.dim, first.dtype):
            raise InputError(
                f"indexes hold {first.dtype} vectors of width {first.dim}, and {index.dtype} ones "
                f"of width {index.dim}; the same are needed"
            )
    parts = [index.to_content() for index in indexes]
    some = [part.ids for part in parts] if kept is None else kept
    rows = [_rows(part, ids) for part, ids in zip(parts, some, strict=True)]
    metadata = [
        part.notes["items"].get(str(item))
        for part, places in zip(parts, rows, strict=True)
        for item in part.ids[places].tolist()
    ]
    pairs = list(zip(parts, rows, strict=True))
    count = len(metadata)
    items = {str(item): value for item, value in enumerate(metadata) if value is not None}
    return CosineIndex.from_content(
        Content(
            indexes[0].dtype,
            np.concatenate([part.values[places] for part, places in pairs]),
            np.concatenate([part.scale[places] for part, places in pairs]),
            np.arange(count),
            {"about": about, "items": items, "next": count},
        )
    )


def _rows(content: Content, ids: Int[np.ndarray, " items"]) -> Int[np.ndarray, " rows"]:
    """Return the rows of ids, in the order they were added."""
    if unknown := set(ids.tolist()) - set(content.ids.tolist()):
        raise InputError(f"ids are not in the index: {arrays.first(np.array(sorted(unknown)))}")
    return np.flatnonzero(np.isin(content.ids, ids))
