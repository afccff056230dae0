"""From a trained run to a search: embed a source, index it, and bring the index up to date."""

import dataclasses
from typing import Any

import numpy as np

from vision_jax.config import BadFiles
from vision_jax.data.listing_file import SEPARATOR
from vision_jax.data.sources import Readable, Source, Subset
from vision_jax.errors import InputError
from vision_jax.gallery.origin import Origin, entries, origin_of, views_of
from vision_jax.gallery.parts import check_directions
from vision_jax.run.run import Run
from vision_jax.run.views import check_views
from vision_jax.search import CosineIndex
from vision_jax.search.graph import Fit


@dataclasses.dataclass(frozen=True)
class IndexChange:
    """What `update_index` or `write_index` did.

    Attributes:
        added: Images that were embedded, since they are new or have changed.
        removed: Images that are gone or have changed.
        kept: Images that are as they were.
        rebuilt: Why an older index was not used and everything was embedded; None if it was used
            or there was none.
        skipped: Why images were left out, by key.
        resumed: How many of `added` an interrupted call had embedded.
        graph: What was measured of the graph that was written for method "hnsw"; None without.
    """

    added: int
    removed: int
    kept: int
    rebuilt: str | None = None
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    resumed: int = 0
    graph: Fit | None = None


def build_index(run: Run, source: Source, *, views: int = 1) -> CosineIndex:
    """Embed every image of a source and index it, with ids from 0 in the source's order.

    Args:
        run: The trained run.
        source: Images in the run's shape.
        views: How many views of each image to average, see `Run.embed`. Queries by `search_images`
            are embedded likewise.

    Returns:
        An index with, per image, the metadata `key`, `digest`, `split`, with labels `label`, and
        what `source.details` says, such as `taken`.
        Its `about` holds the fields of an `Origin`.

    Raises:
        InputError: If the images have another shape than the run's own, or an embedding is zero,
            NaN or infinite.
    """
    index = empty_index(run, source, views)
    update_index(index, run, source)
    return index


def empty_index(run: Run, source: Source, views: int) -> CosineIndex:
    """Make an index without images, of the network's width; see `build_index`."""
    check_views(views)
    width = run.embed(np.zeros((0, *run.info.image_shape), np.uint8)).shape[1]
    return CosineIndex(width, about=Origin.of(run, source, views).about())


def update_index(
    index: CosineIndex, run: Run, source: Source, *, bad_files: BadFiles = "error"
) -> IndexChange:
    """Bring an index up to date with its source, embedding only what is new or has changed.

    Args:
        index: What `build_index` made of an earlier state of the source; changed in place.
        run: The run that made it.
        source: The images as they are now.
        bad_files: Images that cannot be read: raise, or leave them out.

    Returns:
        How many images were added, removed and kept, and which were left out.

    Raises:
        InputError: If another network made the index, or it is of another source.
    """
    origin = Origin.of(run, source, views_of(index))
    if reason := origin_of(index).difference(origin):
        raise InputError(f"the index cannot be updated: {reason}; build a new one")
    rows = describe(source)
    there = {(row["key"], row["digest"]): i for i, row in entries(index)} if len(index) else {}
    fresh = [i for i, row in enumerate(rows) if (row["key"], row["digest"]) not in there]
    wanted = {(row["key"], row["digest"]) for row in rows}
    gone = [i for entry, i in there.items() if entry not in wanted]
    # Embedded and checked before anything is removed: a bad file leaves the index whole.
    new = Readable.of(source, fresh) if bad_files == "skip" else Subset.of(source, fresh)
    vectors = run.embed(new, views=origin.views) if fresh else None
    skipped = new.faults if isinstance(new, Readable) else {}
    kept = [place for place in range(len(fresh)) if place not in skipped]
    added = [rows[fresh[place]] for place in kept]
    if vectors is not None:
        check_directions(vectors[kept], added)
    index.remove(gone)
    kept_ids = {i: row for row in rows if (i := there.get((row["key"], row["digest"]))) is not None}
    index.set_metadata(list(kept_ids), list(kept_ids.values()))  # what was touched, or read anew
    if vectors is not None:
        index.add(vectors[kept], metadata=added)
    index.about = origin.about()  # the run's folder may have moved
    named = {new.key(place): reason for place, reason in sorted(skipped.items())}
    return IndexChange(len(added), len(gone), len(rows) - len(fresh), skipped=named)


def describe(source: Source) -> list[dict[str, Any]]:
    """Return the metadata of each image of a source."""
    names, labels = source.label_names, source.labels()
    rows: list[dict[str, Any]] = [
        {"key": source.key(i), "digest": digest, "split": split}
        for i, (digest, split) in enumerate(zip(source.digests(), source.splits(), strict=True))
    ]
    for row, details in zip(rows, source.details(), strict=True):
        row |= details
    if names is not None and labels is not None:
        for row, label in zip(rows, labels.tolist(), strict=True):
            row["label"] = names[label]
    several, hot = source.multi_label_names, source.multi_hot()
    if several is not None and hot is not None:
        for row, there in zip(rows, hot, strict=True):
            row["labels"] = [several[i] for i in np.flatnonzero(there)]
            row["label"] = SEPARATOR.join(row["labels"])
    return rows
