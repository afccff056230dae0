"""How right a score is: precision and recall of "same label" by the least score."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.similarity import cosine_similarity

STEPS = 1000  # thresholds between 0 and 1
_BUDGET = 1 << 22  # cosines at a time


class ScoreCurve(NamedTuple):
    """Precision and recall of search by the least score.

    Attributes:
        thresholds: (T,) float32 ascending in [-1, 1].
        precision: (T,) of all hits that score at least so much, the share with their query's
            label; NaN where there are none.
        recall: (T,) of all images with their query's label, the share that scores so much.
        images: how many were looked up among each other.
    """

    thresholds: Float[np.ndarray, " thresholds"]
    precision: Float[np.ndarray, " thresholds"]
    recall: Float[np.ndarray, " thresholds"]
    images: int


def score_curve(vectors: ArrayLike, labels: ArrayLike) -> ScoreCurve:
    """Measure what scores mean: each vector is looked up among all others.

    Hits of all queries count alike, without a limit to their number. Memory holds a few million
    cosines at a time.

    Args:
        vectors: (N, D) real numbers, any scale; none zero, NaN or infinite.
        labels: (N,) integers.

    Returns:
        Precision and recall at each of the thresholds -1, -0.999, …, 1, with which scores are
        compared as float32.

    Raises:
        InputError: If there is not one label per vector, a vector has no direction, or no two
            vectors have the same label.
    """
    rows = arrays.vectors("vectors", vectors)
    names = arrays.integers("labels", labels, 1)
    if len(names) != len(rows):
        raise InputError(f"labels has {len(names)} entries; {len(rows)} are needed, one per vector")
    arrays.directions("vectors", rows, rows.shape[1])
    _, numbers = np.unique(names, return_inverse=True)
    thresholds = np.linspace(-1, 1, 2 * STEPS + 1).round(3).astype(np.float32)
    counts = np.zeros((2, len(thresholds)), np.int64)  # of pairs, by whether labels are the same
    for bins in _bins(jnp.asarray(rows), jnp.asarray(numbers, jnp.int32), thresholds):
        counts += np.bincount(bins, minlength=2 * counts.shape[1])[: counts.size].reshape(2, -1)
    if not counts[1].any():
        raise InputError("no two vectors have the same label; at least two are needed")
    same, every = (part[::-1].cumsum()[::-1] for part in (counts[1], counts.sum(0)))
    precision = np.where(every > 0, same / np.maximum(every, 1), np.nan)
    return ScoreCurve(thresholds, precision, same / counts[1].sum(), len(rows))


def _bins(
    rows: Array, labels: Array, thresholds: Float[np.ndarray, " thresholds"]
) -> Iterator[Int[np.ndarray, " pairs"]]:
    """Yield for each pair the last threshold it reaches, plus T where labels are the same.

    A vector and itself, and padding, are beyond 2T.
    """
    count = rows.shape[0]
    size = max(1, min(count, _BUDGET // max(1, count)))
    edges = jnp.asarray(thresholds)
    for start in range(0, count, size):
        # The last part reaches back; its rows before `start` have been counted.
        begin = min(start, count - size)
        part = _bin(rows, labels, edges, jnp.int32(begin), size)
        yield np.asarray(part)[start - begin :].ravel()


@partial(jax.jit, static_argnums=4)
def _bin(rows: Array, labels: Array, edges: Array, begin: Array, size: int) -> Array:
    asked = jax.lax.dynamic_slice_in_dim(rows, begin, size)
    names = jax.lax.dynamic_slice_in_dim(labels, begin, size)
    scores = jnp.clip(cosine_similarity(asked, rows), -1.0, 1.0)
    last = edges.shape[0] - 1
    # A guess by arithmetic is put right by the thresholds themselves.
    guess = jnp.clip(jnp.floor((scores + 1) * STEPS).astype(jnp.int32), 0, last)
    guess -= (scores < edges[guess]).astype(jnp.int32)
    above = jnp.minimum(guess + 1, last)
    guess = jnp.where(scores >= edges[above], above, guess)
    same = (names[:, None] == labels[None]).astype(jnp.int32)
    itself = (begin + jnp.arange(size, dtype=jnp.int32))[:, None] == jnp.arange(
        rows.shape[0], dtype=jnp.int32
    )
    return jnp.where(itself, 2 * edges.shape[0], guess + same * edges.shape[0])
