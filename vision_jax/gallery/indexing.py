"""From a trained run to a search: embed a source, index it, and bring the index up to date."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.data.sources import Source, Subset
from vision_jax.errors import InputError
from vision_jax.gallery.lookup import load_index
from vision_jax.gallery.origin import Origin, entries, origin_of
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.search.arrays import without_direction


@dataclasses.dataclass(frozen=True)
class IndexChange:
    """What `update_index` or `write_index` did.

    Attributes:
        added: Images that were embedded, since they are new or have changed.
        removed: Images that are gone or have changed.
        kept: Images that are as they were.
        rebuilt: Why an older index was not used and everything was embedded; None if it was used
            or there was none.
    """

    added: int
    removed: int
    kept: int
    rebuilt: str | None = None


def build_index(run: Run, source: Source) -> CosineIndex:
    """Embed every image of a source and index it, with ids from 0 in the source's order.

    Args:
        run: The trained run.
        source: Images in the run's shape.

    Returns:
        An index with, per image, the metadata `key`, `digest`, `split` and, with labels, `label`.
        Its `about` holds the fields of an `Origin`.

    Raises:
        InputError: If the images have another shape than the run's own, or an embedding is zero,
            NaN or infinite.
    """
    vectors = run.embed(source)
    index = CosineIndex(vectors.shape[1], about=dataclasses.asdict(Origin.of(run, source)))
    _add(index, vectors, _describe(source))
    return index


def update_index(index: CosineIndex, run: Run, source: Source) -> IndexChange:
    """Bring an index up to date with its source, embedding only what is new or has changed.

    Args:
        index: What `build_index` made of an earlier state of the source; changed in place.
        run: The run that made it.
        source: The images as they are now.

    Returns:
        How many images were added, removed and kept.

    Raises:
        InputError: If another network made the index, or it is of another source.
    """
    origin = Origin.of(run, source)
    if reason := origin_of(index).difference(origin):
        raise InputError(f"the index cannot be updated: {reason}; build a new one")
    rows = _describe(source)
    there = {(row["key"], row["digest"]): i for i, row in entries(index)} if len(index) else {}
    fresh = [i for i, row in enumerate(rows) if (row["key"], row["digest"]) not in there]
    wanted = {(row["key"], row["digest"]) for row in rows}
    gone = [i for entry, i in there.items() if entry not in wanted]
    # Embedded before anything is removed: a file that cannot be read leaves the index whole.
    vectors = run.embed(Subset.of(source, fresh)) if fresh else None
    index.remove(gone)
    if vectors is not None:
        _add(index, vectors, [rows[i] for i in fresh])
    index.about = dataclasses.asdict(origin)  # the run's folder may have moved
    return IndexChange(len(fresh), len(gone), len(rows) - len(fresh))


def write_index(run: Run, source: Source, path: str | Path) -> IndexChange:
    """Write the index of a source to a file, starting from what the file already holds.

    Args:
        run: The trained run.
        source: Images in the run's shape.
        path: The file; replaced only once the new one is whole. An index by another network or of
            another source is built anew.

    Returns:
        How many images were added, removed and kept, and whether an older index was built anew.

    Raises:
        InputError: If the file is no index, or one that was not made here, or the images cannot be
            embedded.
    """
    index, reason = _older(run, source, Path(path))
    if index is None:
        index = build_index(run, source)
        change = IndexChange(len(index), 0, 0, reason)
    else:
        change = update_index(index, run, source)
    index.save(path)
    return change


def _older(run: Run, source: Source, path: Path) -> tuple[CosineIndex | None, str | None]:
    """Load the index that a file holds, or say why it cannot be used."""
    if not path.exists():
        return None, None
    index = load_index(path)
    try:
        origin = origin_of(index)
    except InputError as error:
        raise InputError(f"{path} is not replaced: {error}, or another file") from error
    reason = origin.difference(Origin.of(run, source))
    return (None, reason) if reason else (index, None)


def _describe(source: Source) -> list[dict[str, Any]]:
    """Return the metadata of each image of a source."""
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
            f"{rows[lost[0]]['key']} has an embedding that is zero, NaN or infinite, and so have "
            f"{len(lost) - 1} more; a vector with a direction is needed"
        )
    index.add(vectors, metadata=rows)
