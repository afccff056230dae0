"""Pictures of searches: queries beside what was found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib.figure import Figure

from vision_jax.gallery.indexing import build_index
from vision_jax.gallery.lookup import read_indexed
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.visual.plots import neighbour_grid

_QUERIES, _NEIGHBOURS = 10, 8


def search_grid(run: Run) -> Figure:
    """Draws test images with their nearest training images.

    Args:
        run: a trained network with labels.

    Returns:
        Ten queries, spread over the classes, with eight neighbours each.
    """
    gallery, queries = run.source(run.config.data.train_split), run.source()
    index = build_index(run, gallery)
    chosen = _spread_over_classes(queries.labels(), len(queries))
    asked = queries.read(chosen)
    images = np.stack([example["image"] for example in asked])
    scores, ids = index.search(run.embed(images), min(_NEIGHBOURS, len(index)))
    names = gallery.label_names
    found = [gallery.read(row.tolist()) for row in ids]

    def name(example: Any) -> str:
        return "" if names is None else names[example["label"]]

    return neighbour_grid(
        images,
        [name(example) for example in asked],
        [np.stack([example["image"] for example in row]) for row in found],
        [
            [f"{name(example)} {score:.2f}" for example, score in zip(row, line, strict=True)]
            for row, line in zip(found, scores, strict=True)
        ],
        [
            [None if names is None else e["label"] == example["label"] for e in row]
            for example, row in zip(asked, found, strict=True)
        ],
    )


def found_grid(
    index: CosineIndex,
    run: Run,
    images: UInt8[np.ndarray, "queries height width channels"],
    names: Sequence[str],
    scores: Float[np.ndarray, "queries k"],
    ids: Integer[np.ndarray, "queries k"],
) -> Figure:
    """Draws images with what a search found for them.

    Args:
        index: what was searched; its images are read again from where it was made.
        run: the network that made it.
        images: (Q, H, W, C) the images looked up.
        names: what to write beside each of them.
        scores: (Q, k) their neighbours' similarities.
        ids: (Q, k) their neighbours.

    Returns:
        One row per image looked up.

    Raises:
        InputError: the indexed images can no longer be read.
    """
    found = [index.metadata(line) for line in ids]
    pictures = iter(read_indexed(index, run, [row["key"] for rows in found for row in rows]))
    return neighbour_grid(
        images,
        names,
        [np.stack([next(pictures) for _ in rows]) for rows in found],
        [
            [f"{row.get('label', '')} {score:.2f}" for row, score in zip(rows, line, strict=True)]
            for rows, line in zip(found, scores, strict=True)
        ],
        [[None] * len(rows) for rows in found],
    )


def _spread_over_classes(
    labels: Float[np.ndarray, " n"] | Integer[np.ndarray, " n"] | None, count: int
) -> list[int]:
    """Positions of the queries to show: taking classes in turn, first come first served."""
    if labels is None:
        return list(range(min(_QUERIES, count)))
    rank = np.zeros(count, np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    return np.lexsort((labels, rank))[:_QUERIES].tolist()
