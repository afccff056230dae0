"""Retrieval metrics of a run, beside those of raw pixels."""

from collections.abc import Iterable, Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vision_jax.data.loader import read_parts
from vision_jax.data.sources import Source, Subset
from vision_jax.errors import InputError
from vision_jax.run.run import Run
from vision_jax.search import cosine_top_k
from vision_jax.search.evaluation import evaluate_retrieval, knn_accuracy

NEIGHBOURS = 10


_MAX_QUERIES = 10_000


_MAX_PIXELS = 4096


_ROWS = 4096


def measure_retrieval(run: Run, gallery: Source, queries: Source) -> dict[str, dict[str, float]]:
    """Measures search by the network's embedding, beside search by raw pixels.

    Of each image a vector is kept; pixels are read part by part, those of the queries apart.

    Args:
        run: the trained network.
        gallery: labelled images, the training split, for the kNN accuracy.
        queries: labelled images, the test split; the first 10,000 are used.

    Returns:
        For `embedding` and, of images of at most 4,096 numbers, `pixels`: `knn_accuracy@10` of the
        queries in the gallery, and `precision@10` and `map@r` (Musgrave et al., 2020) of the
        queries among themselves, each leaving itself out.
    """
    queries = Subset.of(queries, range(min(len(queries), _MAX_QUERIES)))
    known, asked = gallery.labels(), queries.labels()
    if known is None or asked is None:
        raise InputError(f"{gallery.name} has no labels; a labelled data set is needed")
    vectors = run.embed(queries)
    found = {"embedding": (vectors, _nearest(vectors, [run.embed(gallery)]))}
    if np.prod(queries.image_shape) <= _MAX_PIXELS:
        vectors = np.concatenate([*_pixels(queries)])
        found["pixels"] = vectors, _nearest(vectors, _pixels(gallery))
    figures = {}
    for name, (vectors, ids) in found.items():
        among = evaluate_retrieval(vectors, asked, ks=(NEIGHBOURS,))
        figures[name] = {
            f"knn_accuracy@{NEIGHBOURS}": knn_accuracy(np.where(ids < 0, -1, known[ids]), asked),
            f"precision@{NEIGHBOURS}": among[f"precision@{NEIGHBOURS}"],
            "map@r": among["map@r"],
        }
    return figures


def _nearest(
    queries: np.ndarray, parts: Iterable[np.ndarray]
) -> Int[np.ndarray, "queries neighbours"]:
    """The places of each query's nearest rows, best first, among those of all parts."""
    scores = np.full((len(queries), NEIGHBOURS), -np.inf, np.float32)
    ids = np.full(scores.shape, -1, np.int64)
    asked, first = jnp.asarray(queries), 0
    for rows in parts:
        near, places = map(np.asarray, cosine_top_k(asked, jnp.asarray(rows), NEIGHBOURS))
        both = np.hstack([scores, near])
        # Of equally near rows the first stays first.
        best = np.argsort(-both, axis=1, kind="stable")[:, :NEIGHBOURS]
        scores = np.take_along_axis(both, best, 1)
        fresh = np.where(places < 0, -1, places + first)
        ids = np.take_along_axis(np.hstack([ids, fresh]), best, 1)
        first += len(rows)
    return ids


def _pixels(source: Source) -> Iterator[Float[np.ndarray, "images pixels"]]:
    for rows in read_parts(source, _ROWS):
        yield rows["image"].reshape(len(rows["image"]), -1).astype(np.float32) / 255
