"""Look up images in an index, by image files, keys and conditions."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.decode import printable
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.files import absolute
from vision_jax.gallery.conditions import meets
from vision_jax.gallery.origin import check_encoder, entries, origin_of, views_of
from vision_jax.gallery.shards import read_shards
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex, near_duplicates
from vision_jax.search.duplicates import Linkage
from vision_jax.search.filters import Where
from vision_jax.search.protocol import Found


def load_index(path: str | Path, *, method: str = "exact") -> CosineIndex:
    """Load an index from a file, or from a folder of shards as one.

    Args:
        path: The file or folder.
        method: How it will be searched. For "sharded" the vectors stay in the files until each
            device takes its part of them, so that they need not fit one device.

    Raises:
        InputError: If there is no such file or folder, or it is damaged.
    """
    if Path(path).is_dir():
        return read_shards(Path(path), stored=method == "sharded")
    return CosineIndex.load(path, method=method)


def find_duplicates(
    index: CosineIndex, threshold: float, *, linkage: Linkage = "chain"
) -> list[tuple[bool, list[dict[str, Any]]]]:
    """List groups of indexed images that are nearly the same to the network.

    Args:
        index: The index to look through.
        threshold: Cosine from which two images count as nearly the same, in (0, 1].
        linkage: "chain" or "complete", as for `search.near_duplicates`.

    Returns:
        `(leaks, metadata)` of each group: those that span splits first, then by size. The split of
        an image is its `split` in the metadata.

    Raises:
        InputError: If the threshold is out of range, or metadata lack what an image's have.
    """
    rows = [row for _, row in entries(index)]
    _, splits = np.unique([row["split"] for row in rows], return_inverse=True)
    groups = near_duplicates(index.vectors(index.ids), threshold, splits=splits, linkage=linkage)
    return [(group.leaks, [rows[i] for i in group.rows]) for group in groups]


def select_ids(index: CosineIndex, conditions: Sequence[str]) -> Int[np.ndarray, " items"]:
    """Return the ids of the indexed images whose metadata meet conditions.

    Args:
        index: The index.
        conditions: Such as `label=shirt`, `taken>=2024-05` or `latitude=40..50`; see
            `conditions.meets`.

    Returns:
        The ids, in the index's order; all of them without conditions.

    Raises:
        InputError: If a condition cannot be read, names an unknown field, or no image meets all.
    """
    images = entries(index)
    ids = np.array([i for i, _ in images])
    met = ids[meets([row for _, row in images], conditions)]
    if not len(met):
        raise InputError(f"no indexed image meets {' '.join(conditions)}")
    return met


def find_keys(index: CosineIndex, keys: Sequence[str]) -> Int[np.ndarray, " images"]:
    """Return the ids of indexed images by their keys; see `id_of`.

    Raises:
        InputError: If no image has such a key.
    """
    there = ids_by_key(index)
    ids = [id_of(there, key) for key in keys]
    if None in ids:
        unknown = keys[ids.index(None)]
        raise InputError(f"{unknown!r} is not indexed; a key such as {min(there)!r} is needed")
    return np.array(ids, np.int64)


def ids_by_key(index: CosineIndex) -> dict[str, int]:
    """Return the id of each indexed image by its key."""
    return {row["key"]: item for item, row in entries(index)}


def id_of(there: dict[str, int], image: str | Path) -> int | None:
    """Return the id of an image by its key as a search prints it, or by the path of its file.

    A folder's keys are the paths of its files: absolute, or relative if it was opened so.
    """
    if str(image) in there or not str(image):
        return there.get(str(image))
    spelled = (absolute(image), os.path.relpath(image))
    return next((there[key] for key in map(printable, spelled) if key in there), None)


def search_images(
    index: CosineIndex,
    run: Run,
    paths: Sequence[str | Path],
    k: int,
    *,
    where: Where | None = None,
    min_score: float | None = None,
    method: str = "exact",
) -> Found:
    """Look image files up in an index.

    Args:
        index: The index to search.
        run: The run that made its vectors.
        paths: The images to look up.
        k: How many neighbours.
        where: Which may be found, as for `CosineIndex.search`; all by default.
        min_score: Least cosine, as for `CosineIndex.search`.
        method: As for `CosineIndex.search`.

    Returns:
        `(scores, ids)`, both (Q, k), best first; missing places -inf and -1.

    Raises:
        InputError: If another network made the index, or an image is unreadable.
    """
    check_encoder(index, run)
    if not paths:
        return index.search([], k, where, min_score=min_score, method=method)
    vectors = run.embed(run.read_images(paths), views=views_of(index))
    return index.search(vectors, k, where, min_score=min_score, method=method)


def search_indexed(
    index: CosineIndex,
    ids: Int[np.ndarray, " queries"],
    k: int,
    *,
    where: Where | None = None,
    min_score: float | None = None,
    method: str = "exact",
) -> Found:
    """Look indexed images up by their ids, each leaving itself out.

    Args:
        index: The index to search.
        ids: The images to look up.
        k: How many neighbours.
        where: Which may be found, as for `CosineIndex.search`; all by default.
        min_score: Least cosine, as for `CosineIndex.search`.
        method: As for `CosineIndex.search`.

    Returns:
        As `search_images`.

    Raises:
        InputError: If an id is not present.
    """
    return index.search_by_id(ids, k, where, min_score=min_score, method=method)


def read_indexed(
    index: CosineIndex, run: Run, keys: Sequence[str]
) -> UInt8[np.ndarray, "images height width channels"]:
    """Read indexed images again from where they were.

    Args:
        index: The index they are in.
        run: The run that made it.
        keys: Their keys.

    Returns:
        (N, H, W, C) uint8 in the run's shape.

    Raises:
        InputError: If an image is no longer there.
    """
    places = find_indexed(index, run, keys)
    images = {key: source.read([place])[0]["image"] for key, (source, place) in places.items()}
    shape = (0, *run.info.image_shape)
    return np.stack([images[key] for key in keys]) if images else np.zeros(shape, np.uint8)


def find_indexed(
    index: CosineIndex, run: Run, keys: Sequence[str]
) -> dict[str, tuple[Source, int]]:
    """Find indexed images where they were, in a run's shape.

    Args:
        index: The index they are in.
        run: The run that made it.
        keys: Their keys.

    Returns:
        Of each key the source that holds its image, and the image's place in it.

    Raises:
        InputError: If an image is no longer there.
    """
    found: dict[str, tuple[Source, int]] = {}
    for name, split in origin_of(index).sources if keys else ():
        source = run.open_images(name, split, bad_files="later")
        places = {source.key(i): i for i in range(len(source))}
        there = (key for key in keys if key in places and key not in found)
        found |= {key: (source, places[key]) for key in there}
    if gone := [key for key in keys if key not in found]:
        raise InputError(f"{gone[0]} is indexed but no longer there; index the images again")
    return found
