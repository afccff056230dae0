"""Pictures of searches: queries beside what was found."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib.figure import Figure

from vision_jax.data.sources import Example, Source
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.retrieval import nearest
from vision_jax.gallery.lookup import read_indexed
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.search.arrays import without_direction
from vision_jax.visual.plots import neighbour_grid

_QUERIES, _NEIGHBOURS = 10, 8


def search_grid(data: EvaluationData) -> Figure | None:
    """Draw test images with their nearest training images.

    Args:
        data: a trained run and its data.

    Returns:
        Ten queries, spread over the classes, with eight neighbours each; None if no query or no
        training image has an embedding that can be compared.
    """
    train, test = data.train, data.test
    examples = test.read(_spread_over_classes(test.labels(), len(test)))
    vectors = data.run.embed(np.stack([example["image"] for example in examples]))
    lost = without_direction(vectors)
    examples = [example for i, example in enumerate(examples) if i not in lost]
    if not examples:
        return None
    scores, ids, _ = nearest(np.delete(vectors, lost, 0), [data.train_vectors], _NEIGHBOURS)
    if not (ids >= 0).any():
        return None
    found = [train.read(row[row >= 0].tolist()) for row in ids]
    return neighbour_grid(
        np.stack([example["image"] for example in examples]),
        [_class_name(example, test) for example in examples],
        [np.stack([example["image"] for example in row]) for row in found],
        [
            [
                _title(_class_name(example, train), score)
                for example, score in zip(row, line[: len(row)], strict=True)
            ]
            for row, line in zip(found, scores.tolist(), strict=True)
        ],
        [
            [None if "label" not in e else e["label"] == example["label"] for e in row]
            for example, row in zip(examples, found, strict=True)
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
    """Draw images with what a search found for them.

    Args:
        index: what was searched; its images are read again from where it was made.
        run: the run whose network made it.
        images: (Q, H, W, C) the images looked up.
        names: what to write above each of them.
        scores: (Q, k) the similarities of their neighbours.
        ids: (Q, k) the ids of their neighbours.

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
            [_title(row.get("label", ""), score) for row, score in zip(rows, line, strict=True)]
            for rows, line in zip(found, scores.tolist(), strict=True)
        ],
        [[None] * len(rows) for rows in found],
    )


def _title(name: str, score: float) -> str:
    return f"{name}\n{score:.2f}".lstrip()


def _class_name(example: Example, source: Source) -> str:
    names = source.label_names
    return "" if names is None else names[example["label"]]


def _spread_over_classes(
    labels: Float[np.ndarray, " n"] | Integer[np.ndarray, " n"] | None, count: int
) -> list[int]:
    """Choose which queries to show: one of each class in turn, the first ones first."""
    if labels is None:
        return list(range(min(_QUERIES, count)))
    rank = np.zeros(count, np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    return np.lexsort((labels, rank))[:_QUERIES].tolist()
