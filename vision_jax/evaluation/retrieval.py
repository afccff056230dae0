"""Retrieval metrics of vectors, with intervals, and of a run beside those of raw pixels."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Integer, Shaped, UInt8
from PIL import Image

from vision_jax.data.encode import to_pil
from vision_jax.data.loader import read_parts
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.intervals import (
    SAMPLES,
    Difference,
    Interval,
    bootstrap_interval,
    paired_test,
)
from vision_jax.search import cosine_top_k
from vision_jax.search.arrays import ArrayLike, without_direction
from vision_jax.search.evaluation import (
    RetrievalValues,
    evaluate_retrieval,
    knn_accuracy,
    retrieval_values,
)

NEIGHBOURS = 10
_MAX_PIXELS = 4096
_SIDE = 32
_ROWS = 4096
_MAX_READ = 2**22  # bytes of pixels that are read at a time, some times over in threads


class Search(NamedTuple):
    """How good a search is, as `measure_search` found.

    Attributes:
        metrics: the mean of each metric of `search.evaluate_retrieval`, with its interval.
        found: every query's values, and which rows were left out.
        groups: (Q,) what the queries belong to; None if each stands for itself.
    """

    metrics: dict[str, Interval]
    found: RetrievalValues
    groups: Shaped[np.ndarray, " queries"] | None


def measure_search(
    queries: ArrayLike,
    query_labels: ArrayLike,
    gallery: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    *,
    ks: Sequence[int] = (1, 10),
    ignore: ArrayLike | None = None,
    groups: Shaped[np.ndarray, " entries"] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Search:
    """Measure search by vectors, in a gallery of its own or among the queries.

    Args:
        queries: (Q, D) vectors; what is zero, NaN or infinite is left out, with a warning.
        query_labels: (Q,) integers from 0.
        gallery: (N, D) vectors; by default the queries search one another.
        gallery_labels: (N,) integers from 0, given with `gallery`.
        ks: cut-offs; `hit_rate@k` is what papers on metric learning call Recall@k.
        ignore: (Q,) the gallery row that each query must not find; -1 for none.
        groups: (Q,) what each query belongs to, see `bootstrap_interval`.
        samples: draws of the bootstrap.
        seed: of these draws.

    Returns:
        Each metric's mean over the queries that have something to find, with its 95% interval.

    Raises:
        InputError: no query has anything to find, or an argument does not fit.
    """
    found = retrieval_values(queries, query_labels, gallery, gallery_labels, ks=ks, ignore=ignore)
    metrics = {
        name: bootstrap_interval(values, groups=groups, samples=samples, seed=seed)
        for name, values in found.values.items()
    }
    return Search(metrics, found, groups)


def compare_searches(
    first: Search, second: Search, *, samples: int = SAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """Compare two searches for the same queries, such as by two embeddings.

    Args:
        first: of the queries.
        second: of the same queries in the same order.
        samples: draws of the bootstrap and the test.
        seed: of these draws.

    Returns:
        For each metric that both have, the first's less the second's; see `paired_test`. Queries
        that either leaves out do not count.

    Raises:
        InputError: the numbers of queries differ.
    """
    return {
        name: paired_test(
            values, second.found.values[name], groups=first.groups, samples=samples, seed=seed
        )
        for name, values in first.found.values.items()
        if name in second.found.values
    }


class Retrieval(NamedTuple):
    """What `measure_retrieval` found.

    Attributes:
        metrics: for `embedding` and `pixels`, the metrics by name, each in [0, 1].
        notes: sentences that say what was left out, and why.
    """

    metrics: dict[str, dict[str, float]]
    notes: list[str]


def measure_retrieval(data: EvaluationData) -> Retrieval:
    """Measure search by the run's embeddings and, as a baseline, by raw pixels.

    Images whose vector is zero, NaN or infinite have no cosine: they are left out, and a note
    counts and names them. Memory holds one vector per training image; the pixels of training images
    are streamed.

    Args:
        data: labelled images; of more than 10,000 test images an even choice is looked up.

    Returns:
        For `embedding` and `pixels`: `knn_accuracy@10` of the test images among the training
        images, and `precision@10` and `map@r` (Musgrave et al., "A metric learning reality check",
        2020) of the test images among themselves, each without itself. Images that are the only
        ones of their class do not count in the latter two, which are left out if all are. For
        `pixels`, images of more than 4,096 values are reduced to 32 pixels at their longer side; a
        note says so.

    Raises:
        InputError: the images have no labels.
    """
    queries = data.queries
    known, asked = data.train.labels(), queries.labels()
    if known is None or asked is None:
        raise InputError(f"{data.train.name} has no labels; a labelled data set is needed")
    metrics: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    if data.shared:
        known = known[:0]
        notes.append(
            f"knn_accuracy@{NEIGHBOURS} is left out: {data.shared} images of {data.test.split} are "
            f"among the training images, {data.train.split}, and would find themselves"
        )
    vectors = data.query_vectors
    found = [] if data.shared else [data.train_vectors]
    metrics["embedding"] = _measure("embedding", vectors, asked, found, known, queries, notes)
    pixels = np.concatenate([*_pixels(queries)])
    rows = [] if data.shared else _pixels(data.train)
    metrics["pixels"] = _measure("pixels", pixels, asked, rows, known, queries, notes)
    height, width, _ = queries.image_shape
    if (small := _reduced_shape(queries.image_shape)) != (height, width):
        notes.append(
            f"search by pixels compares the images of {height}x{width} reduced to "
            f"{small[0]}x{small[1]}"
        )
    if any("map@r" not in row for row in metrics.values()):
        notes.append(
            f"precision@{NEIGHBOURS} and map@r are left out where no class has two test images, "
            "one to look up and one to find"
        )
    return Retrieval({name: row for name, row in metrics.items() if row}, notes)


def _measure(
    name: str,
    vectors: Float[np.ndarray, "queries dim"],
    asked: Integer[np.ndarray, " queries"],
    gallery: Iterable[np.ndarray],
    known: Integer[np.ndarray, " items"],
    queries: Source,
    notes: list[str],
) -> dict[str, float]:
    """Measure search by one kind of vector; appends to the notes what is left out."""
    lost = without_direction(vectors)
    if len(lost):
        notes.append(
            f"search by {name} leaves out {len(lost)} of {len(vectors)} test images, such as "
            f"{queries.key(int(lost[0]))}: their vector is zero, NaN or infinite"
        )
    vectors, asked = np.delete(vectors, lost, 0), np.delete(asked, lost)
    if not len(vectors):
        return {}
    _, ids, lost_items = nearest(vectors, gallery, NEIGHBOURS)
    if lost_items:
        notes.append(
            f"search by {name} leaves out {lost_items} of {len(known)} training images: their "
            "vector is zero, NaN or infinite"
        )
    row = {}
    if lost_items < len(known):
        labels = np.where(ids < 0, -1, known[ids])
        row[f"knn_accuracy@{NEIGHBOURS}"] = knn_accuracy(labels, asked)
    if np.max(np.bincount(asked)) > 1:
        among = evaluate_retrieval(vectors, asked, ks=(NEIGHBOURS,))
        row |= {metric: among[metric] for metric in (f"precision@{NEIGHBOURS}", "map@r")}
    return row


def nearest(
    queries: Float[np.ndarray, "queries dim"], parts: Iterable[np.ndarray], k: int
) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"], int]:
    """Find each query's nearest rows among those of all parts, one part in memory at a time.

    Args:
        queries: (Q, D), none of them zero, NaN or infinite.
        parts: (N, D) each; rows that are zero, NaN or infinite are never found.
        k: how many neighbours.

    Returns:
        (scores, ids, lost): cosines and row numbers (Q, k), best first and ties by the lower row,
        -inf and -1 where there are too few; and how many rows could not be found.
    """
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full(scores.shape, -1, np.int64)
    asked, first, lost = jnp.asarray(queries), 0, 0
    for rows in parts:
        hidden = without_direction(rows)
        lost += len(hidden)
        if len(hidden):
            rows = rows.copy()
            rows[hidden] = np.nan  # the search never finds these
        near, places = map(np.asarray, cosine_top_k(asked, jnp.asarray(rows), k))
        both = np.hstack([scores, near])
        # Of equally near rows the first stays first.
        best = np.argsort(-both, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(both, best, 1)
        fresh = np.where(places < 0, -1, places + first)
        ids = np.take_along_axis(np.hstack([ids, fresh]), best, 1)
        first += len(rows)
    return scores, ids, lost


def image_parts(source: Source) -> Iterator[UInt8[np.ndarray, "images height width channels"]]:
    """Read the images of a source part by part, few bytes at a time."""
    count = max(1, min(_ROWS, _MAX_READ // int(np.prod(source.image_shape))))
    return (rows["image"] for rows in read_parts(source, count))


def _pixels(source: Source) -> Iterator[Float[np.ndarray, "images pixels"]]:
    """Give the images of a source as rows of pixels, large ones reduced."""
    height, width = _reduced_shape(source.image_shape)
    reduce = (height, width) != source.image_shape[:2]
    for images in image_parts(source):
        if reduce:
            images = np.stack(
                [
                    np.asarray(to_pil(image).resize((width, height), Image.Resampling.BOX))
                    for image in images
                ]
            )
        yield images.reshape(len(images), -1).astype(np.float32) / 255


def _reduced_shape(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the height and width at which images are compared by their pixels."""
    height, width, _ = shape
    if np.prod(shape) <= _MAX_PIXELS:
        return height, width
    factor = min(1.0, _SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))
