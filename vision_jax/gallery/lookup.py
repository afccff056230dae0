"""Searching an index by image files, keys and conditions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from vision_jax.errors import InputError
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex, near_duplicates

Found = tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]


def find_duplicates(
    index: CosineIndex, threshold: float
) -> list[tuple[bool, list[dict[str, Any]]]]:
    """Lists groups of indexed images that are nearly the same to the network.

    Args:
        index: what to look through.
        threshold: cosine from which two images count as nearly the same, in (0, 1].

    Returns:
        `(leaks, metadata)` of each group: those that span splits first, then by size. The split of
        an image is its `split` in the metadata.

    Raises:
        InputError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be in (0, 1]")
    rows = [row for _, row in _entries(index)]
    _, splits = np.unique([row["split"] for row in rows], return_inverse=True)
    groups = near_duplicates(index.vectors(index.ids), threshold, splits=splits)
    return [(group.leaks, [rows[i] for i in group.rows]) for group in groups]


def _entries(index: CosineIndex) -> list[tuple[int, dict[str, Any]]]:
    return list(zip(index.ids.tolist(), index.metadata(index.ids), strict=True))


def load_index(path: str | Path) -> CosineIndex:
    """Loads an index from a file.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    try:
        return CosineIndex.load(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; an index file is needed") from None
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error


def select_ids(index: CosineIndex, conditions: Sequence[str]) -> Int[np.ndarray, " items"]:
    """The ids of the indexed images whose metadata meet conditions.

    Args:
        index: whose metadata.
        conditions: `FIELD=VALUE` each, such as `label=shirt` or `split=test`. Of the same field one
            must hold, of different fields all.

    Returns:
        The ids, in the index's order; all of them without conditions.

    Raises:
        InputError: a condition is not of that form, names an unknown field, or none fits.
    """
    wanted: dict[str, set[str]] = {}
    for condition in conditions:
        field, equals, value = condition.partition("=")
        if not equals:
            raise InputError(f"a condition is {condition!r}; it must be FIELD=VALUE")
        wanted.setdefault(field, set()).add(value)
    entries = _entries(index)
    fields = {field for _, row in entries for field in row}
    if unknown := wanted.keys() - fields:
        raise InputError(f"images have no {min(unknown)!r}; they have {', '.join(sorted(fields))}")
    met = [i for i, row in entries if all(str(row.get(f)) in v for f, v in wanted.items())]
    if not met:
        raise InputError(f"no indexed image meets {' '.join(conditions)}")
    return np.array(met)


def find_keys(index: CosineIndex, keys: Sequence[str]) -> Int[np.ndarray, " images"]:
    """The ids of indexed images by their keys, as a search prints them.

    Raises:
        InputError: no image has such a key.
    """
    there = {row["key"]: i for i, row in _entries(index)}
    if unknown := [key for key in keys if key not in there]:
        raise InputError(f"{unknown[0]!r} is not indexed; a key such as {min(there)!r} is needed")
    return np.array([there[key] for key in keys])


def search_images(
    index: CosineIndex,
    run: Run,
    paths: Sequence[str | Path],
    k: int,
    *,
    where: Int[np.ndarray, " items"] | None = None,
) -> Found:
    """Looks image files up in an index.

    Args:
        index: what to search.
        run: the network that made its vectors.
        paths: the images to look up.
        k: how many neighbours, at most as many as may be found.
        where: the ids that may be found; all by default.

    Returns:
        `(scores, ids)`, both (Q, k), best first.

    Raises:
        InputError: k is out of range, or an image is unreadable.
    """
    _check_k(k, len(index) if where is None else len(where))
    return index.search(run.embed(run.read_images(paths)), k, where)


def search_indexed(
    index: CosineIndex,
    ids: Int[np.ndarray, " queries"],
    k: int,
    *,
    where: Int[np.ndarray, " items"] | None = None,
) -> Found:
    """Looks indexed images up by their ids, each leaving itself out.

    Args:
        index: what to search.
        ids: the images to look up.
        k: how many neighbours, fewer than may be found.
        where: the ids that may be found; all by default.

    Returns:
        As `search_images`.

    Raises:
        InputError: k is out of range.
    """
    _check_k(k, len(index) - 1 if where is None else len(where) - int(np.isin(ids, where).any()))
    return index.search_by_id(ids, k, where)


def _check_k(k: int, most: int) -> None:
    if not 1 <= k <= most:
        raise InputError(f"k is {k}; it must be in [1, {most}], as many as may be found")


def read_indexed(
    index: CosineIndex, run: Run, keys: Sequence[str]
) -> UInt8[np.ndarray, "images height width channels"]:
    """Reads indexed images again from where they were.

    Args:
        index: what they are indexed in.
        run: the network that made it.
        keys: their keys.

    Returns:
        (N, H, W, C) uint8 in the run's shape.

    Raises:
        InputError: an image is no longer there.
    """
    about = index.about
    source = run.open_images(about["source"], about["split"], bad_files="later")
    places = {source.key(i): i for i in range(len(source))}
    if gone := [key for key in keys if key not in places]:
        raise InputError(f"{gone[0]} is indexed but no longer there; index the images again")
    return np.stack([example["image"] for example in source.read([places[k] for k in keys])])
