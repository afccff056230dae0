"""Merge indexes of the same network, such as one for each folder of photographs."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int

from vision_jax.errors import InputError
from vision_jax.gallery.origin import Origin, entries, origin_of
from vision_jax.search import CosineIndex
from vision_jax.search.merging import concatenate

SameKey = Literal["error", "first", "last"]


def merge_indexes(
    indexes: Sequence[CosineIndex],
    *,
    names: Sequence[str] | None = None,
    on_same_key: SameKey = "error",
) -> CosineIndex:
    """Make one index of several; a search finds what searches of each would.

    Metadata stay as they are: a field that only some have can be filtered by, and images without it
    meet no condition on it.

    Args:
        indexes: At least 2, as `vision-jax index` or `build_index` made them, by one network.
        names: What to call them in errors; by default their numbers.
        on_same_key: What to do where indexes hold images of one key: refuse, or keep that of the
            first or the last index.

    Returns:
        The vectors, bit for bit, with new ids from 0.

    Raises:
        InputError: There are fewer than 2, another network made one of them, one does not name its
            network, they store other types of numbers, or two hold the same key.
    """
    if len(indexes) < 2:
        raise InputError(f"{len(indexes)} index was given to merge; 2 or more are needed")
    if on_same_key not in ("error", "first", "last"):
        raise InputError(f"on_same_key is {on_same_key!r}; error, first or last is needed")
    called = [f"index {number}" for number in range(len(indexes))] if names is None else names
    origins = [origin_of(index) for index in indexes]
    for name, origin, index in zip(called, origins, indexes, strict=True):
        if origin.encoder is None:
            raise InputError(f"{name} does not name the network that made it; index its images")
        if origin.encoder != origins[0].encoder:
            raise InputError(
                f"{called[0]} and {name} were made by different networks; their vectors cannot be "
                "compared: index the images of one again with the other's run"
            )
        if origin.views != origins[0].views:
            raise InputError(
                f"{called[0]} averages {origins[0].views} views of each image and {name} "
                f"{origin.views}; the same is needed"
            )
        if index.dtype != indexes[0].dtype:
            raise InputError(
                f"{called[0]} stores {indexes[0].dtype} and {name} {index.dtype}; the same is "
                "needed"
            )
    kept = _kept(indexes, called, on_same_key)
    return concatenate(indexes, kept, about=_joined(origins).about())


def _kept(
    indexes: Sequence[CosineIndex], names: Sequence[str], on_same_key: SameKey
) -> list[Int[np.ndarray, " items"]]:
    """Choose the images of each index: one of each key."""
    chosen: dict[str, tuple[int, int]] = {}  # the index and id that has each key
    for number, index in enumerate(indexes):
        for item, row in entries(index):
            before = chosen.get(row["key"])
            if before is not None and on_same_key == "error":
                raise InputError(
                    f"{names[before[0]]} and {names[number]} both hold {row['key']}; on_same_key "
                    "is error, and first or last keeps one"
                )
            if before is None or on_same_key == "last":
                chosen[row["key"]] = number, item
    return [
        np.array([item for place, item in chosen.values() if place == number], np.int64)
        for number in range(len(indexes))
    ]


def _joined(origins: Sequence[Origin]) -> Origin:
    """Join where the images come from; the run is that of the first index."""
    sources = dict.fromkeys(source for origin in origins for source in origin.sources)
    (source, split), *others = sources
    return dataclasses.replace(origins[0], source=source, split=split, others=tuple(others))
