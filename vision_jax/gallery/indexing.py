"""From a trained network to a search: embed a source, index it, look images up, measure it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.data.sources import Source, Subset
from vision_jax.errors import InputError
from vision_jax.gallery.lookup import _entries, load_index
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.search.arrays import without_direction


@dataclasses.dataclass(frozen=True)
class IndexChange:
    """What `update_index` did.

    Attributes:
        added: images that were embedded, since they are new or have changed.
        removed: images that are gone or have changed.
        kept: images that are as they were.
    """

    added: int
    removed: int
    kept: int


def build_index(run: Run, source: Source) -> CosineIndex:
    """Embeds every image of a source and indexes it, the ids counting from 0 in its order.

    Args:
        run: the trained network.
        source: images in the run's shape.

    Returns:
        An index with, per image, the metadata `key`, `digest`, `split` and, with labels, `label`.

    Raises:
        InputError: the images have another shape than the run's own, or no direction.
    """
    vectors = run.embed(source)
    index = CosineIndex(vectors.shape[1], about=_about(run, source))
    _add(index, vectors, _describe(source))
    return index


def update_index(index: CosineIndex, run: Run, source: Source) -> IndexChange:
    """Brings an index up to date with its source, embedding only what is new or has changed.

    Args:
        index: what `build_index` made of an earlier state of the source; changed in place.
        run: the network and checkpoint that made it.
        source: the images as they are now.

    Returns:
        How many images were added, removed and kept.

    Raises:
        InputError: the index is of another network or source.
    """
    if index.about != _about(run, source):
        raise InputError(f"the index is of {index.about}; needed: {_about(run, source)}")
    rows = _describe(source)
    there = {(row["key"], row["digest"]): i for i, row in _entries(index)}
    fresh = [i for i, row in enumerate(rows) if (row["key"], row["digest"]) not in there]
    wanted = {(row["key"], row["digest"]) for row in rows}
    gone = [i for entry, i in there.items() if entry not in wanted]
    # Embedded before anything is removed: a file that cannot be read leaves the index whole.
    vectors = run.embed(Subset.of(source, fresh)) if fresh else None
    index.remove(gone)
    if vectors is not None:
        _add(index, vectors, [rows[i] for i in fresh])
    return IndexChange(len(fresh), len(gone), len(rows) - len(fresh))


def write_index(run: Run, source: Source, path: Path) -> IndexChange:
    """Writes the index of a source to a file, starting from what the file already holds.

    Args:
        run: the trained network.
        source: images in the run's shape.
        path: the file; replaced only once the new one is whole. An index of another network or
            source is built anew.

    Returns:
        How many images were added, removed and kept.

    Raises:
        InputError: the file is no index, or the images cannot be embedded.
    """
    index = load_index(path) if path.exists() else None
    if index is not None and index.about == _about(run, source):
        change = update_index(index, run, source)
    else:
        index = build_index(run, source)
        change = IndexChange(len(index), 0, 0)
    index.save(path)
    return change


def _about(run: Run, source: Source) -> dict[str, Any]:
    return {
        "workdir": str(run.workdir.absolute()),
        "step": run.step,
        "source": source.name,
        "split": source.split,
    }


def _describe(source: Source) -> list[dict[str, Any]]:
    """The metadata of each image of a source."""
    names, labels = source.label_names, source.labels()
    rows: list[dict[str, Any]] = [
        {"key": source.key(i), "digest": digest, "split": split}
        for i, (digest, split) in enumerate(zip(source.digests(), source.splits(), strict=True))
    ]
    if names is not None and labels is not None:
        for row, label in zip(rows, labels.tolist(), strict=True):
            row["label"] = names[label]
    return rows


def _add(index: CosineIndex, vectors: np.ndarray, rows: list[dict[str, Any]]) -> None:
    lost = without_direction(vectors)
    if len(lost):
        raise InputError(
            f"{rows[lost[0]]['key']} is embedded as zeros or not finite, and so are "
            f"{len(lost) - 1} more; a vector with a direction is needed"
        )
    index.add(vectors, metadata=rows)
