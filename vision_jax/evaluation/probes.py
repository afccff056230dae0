"""How much of the classes is in frozen features: a vote of neighbours, and a linear probe."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from vision_jax.bars import tqdm
from vision_jax.errors import InputError
from vision_jax.evaluation.retrieval import nearest
from vision_jax.losses.classification import softmax_cross_entropy
from vision_jax.search.arrays import without_direction

Vectors = Float[np.ndarray, "images dim"]
Labels = Integer[np.ndarray, " labels"]
Queries = Float[np.ndarray, "queries width"]
# Classes first: with them last, a CPU takes 13 times as long for the kernel's slopes.
Affine = tuple[Float[np.ndarray, "classes dim"], Float[np.ndarray, " classes"]]

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Weights of the L2 penalty among which `fit_probe` chooses."""
_HELD_OUT = 0.1
_ITERATIONS = 500


def knn_predict(
    vectors: Vectors,
    labels: Labels,
    queries: Queries,
    *,
    k: int = 20,
    temperature: float | None = 0.07,
) -> Int[np.ndarray, " queries"]:
    """Predict each query's class by a vote of its nearest neighbours.

    A neighbour of cosine c has exp(c / temperature) votes, as DINO and others evaluate features
    (Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", 2018,
    section 3.4; there k is 200).

    Args:
        vectors: (N, D) labelled; those that are zero, NaN or infinite are never found.
        labels: (N,) classes from 0.
        queries: (Q, D).
        k: neighbours that vote, at least 1.
        temperature: above 0; None gives each one vote.

    Returns:
        (Q,) the class of most votes, the lowest of equals; -1 for a query that is zero, NaN or
        infinite, or has no neighbour.

    Raises:
        InputError: an argument is out of range, or lengths or widths differ.
    """
    _check(vectors, labels)
    if queries.shape[1] != vectors.shape[1]:
        raise InputError(
            f"queries has width {queries.shape[1]} and vectors {vectors.shape[1]}; the same width "
            "is needed"
        )
    if k < 1:
        raise InputError(f"k is {k}; at least 1 is needed")
    if temperature is not None and not temperature > 0:
        raise InputError(f"temperature is {temperature}; it must be above 0, or None")
    asked = np.setdiff1d(np.arange(len(queries)), without_direction(queries))
    predicted = np.full(len(queries), -1, np.int64)
    scores, ids, _ = nearest(queries[asked], [vectors], min(k, len(vectors)))
    if not ids.size or (ids < 0).all():
        return predicted
    # Less the best, which leaves the shares as they are and cannot overflow.
    apart = scores - scores[:, :1] if temperature else np.zeros_like(scores)
    weights = np.where(ids < 0, 0, np.exp(apart / (temperature or 1)))
    votes = np.zeros((len(asked), int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(asked))[:, None], labels[ids]), weights)
    predicted[asked] = votes.argmax(1)
    return predicted


class LinearProbe(NamedTuple):
    """A linear classifier of features.

    Attributes:
        kernel: (D, classes) float32.
        bias: (classes,) float32.
        l2: weight of the penalty that it was trained with.
    """

    kernel: Float[np.ndarray, "dim classes"]
    bias: Float[np.ndarray, " classes"]
    l2: float

    def scores(self, vectors: Vectors) -> Float[np.ndarray, "images classes"]:
        """Compute the logits of features (N, D)."""
        return vectors @ self.kernel + self.bias

    def predict(self, vectors: Vectors) -> Int[np.ndarray, " images"]:
        """Return the class of the highest logit for features (N, D)."""
        return self.scores(vectors).argmax(1)


def fit_probe(
    vectors: Vectors, labels: Labels, *, l2: float | None = None, seed: int = 0
) -> LinearProbe:
    """Train a linear probe on frozen features, by up to 500 steps of L-BFGS.

    Multinomial logistic regression on features of mean 0 and deviation 1: the mean cross-entropy
    plus `l2` / 2 times the kernel's squares, as scikit-learn's `LogisticRegression` of
    C = 1 / (l2 N).

    Args:
        vectors: (N, D) finite.
        labels: (N,) classes from 0, two or more.
        l2: at least 0; None takes the one of `STRENGTHS` that has the best accuracy on a tenth of
            the images, the strongest of equals, and then trains on all.
        seed: of the choice of that tenth.

    Raises:
        InputError: a feature is NaN or infinite, there is one class, or lengths differ.
    """
    _check(vectors, labels)
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise InputError(
            f"vectors has {len(bad)} of {len(vectors)} rows with NaN or infinity, the first at "
            f"{bad[:5].tolist()}; finite features are needed"
        )
    if len(np.unique(labels)) < 2:
        raise InputError(f"labels has {len(np.unique(labels))} class; two or more are needed")
    if l2 is not None and not l2 >= 0:
        raise InputError(f"l2 is {l2}; at least 0 is needed")
    mean, scale = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64)
    # Rounding gives a constant feature a deviation, as in scikit-learn's `StandardScaler`.
    rounding = len(vectors) * np.finfo(np.float64).eps * np.abs(mean)
    scale = np.where(scale > rounding, scale, 1).astype(np.float32)
    mean = mean.astype(np.float32)
    rows = ((vectors - mean) / scale).astype(np.float32)
    most = _ITERATIONS * (len(STRENGTHS) + 1 if l2 is None else 1)
    with tqdm(total=most, desc="linear probe", unit="step", delay=2, leave=False) as bar:
        strength = _best_strength(rows, labels, seed, bar) if l2 is None else l2
        kernel, bias = _minimised(rows, labels, strength, _zeros(rows, labels), bar)
    kernel = kernel.T / scale[:, None]
    return LinearProbe(kernel, (bias - mean @ kernel).astype(np.float32), strength)


def _best_strength(rows: np.ndarray, labels: np.ndarray, seed: int, bar: tqdm) -> float:
    order = np.random.default_rng(seed).permutation(len(rows))
    held, kept = np.split(order, [max(1, round(_HELD_OUT * len(rows)))])
    start, right = _zeros(rows, labels), []
    for strength in STRENGTHS:  # each from the one before, the strongest is the quickest
        start = kernel, bias = _minimised(rows[kept], labels[kept], strength, start, bar)
        right.append(np.mean((rows[held] @ kernel.T + bias).argmax(1) == labels[held]))
    return STRENGTHS[int(np.argmax(right))]


def _minimised(
    rows: np.ndarray,
    labels: np.ndarray,
    l2: float,
    start: Affine,
    bar: tqdm,
) -> Affine:
    held, truth = jnp.asarray(rows), jnp.asarray(labels.astype(np.int32))
    shape = start[0].shape

    def parts(flat: np.ndarray) -> Affine:
        kernel, bias = np.split(flat.astype(np.float32), [start[0].size])
        return kernel.reshape(shape), bias

    def cost(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes = _cost(*parts(flat), held, truth, np.float32(l2))
        return float(value), np.concatenate([np.asarray(x, np.float64).ravel() for x in slopes])

    # SciPy's own products are small; after each, BLAS's threads would spin beside those of `_cost`.
    with threadpool_limits(1, user_api="blas"):
        found = minimize(
            cost,
            np.concatenate([part.ravel() for part in start]).astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            callback=lambda _: bar.update(),
            options={"maxiter": _ITERATIONS, "gtol": 1e-6, "ftol": 1e-9},
        )
    bar.update(_ITERATIONS - found.nit)  # those that it did not need
    return parts(found.x)


def _zeros(rows: np.ndarray, labels: np.ndarray) -> Affine:
    classes = int(labels.max()) + 1
    return np.zeros((classes, rows.shape[1]), np.float32), np.zeros(classes, np.float32)


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def _cost(
    kernel: Float[Array, "classes dim"],
    bias: Float[Array, " classes"],
    rows: Float[Array, "images dim"],
    labels: Int[Array, " images"],
    l2: Float[Array, ""],
) -> Float[Array, ""]:
    # The exact product also where a GPU would round its inputs to fewer bits.
    logits = jnp.matmul(rows, kernel.T, precision="highest") + bias
    return softmax_cross_entropy(logits, labels).mean() + l2 / 2 * jnp.square(kernel).sum()


def _check(vectors: np.ndarray, labels: np.ndarray) -> None:
    if len(vectors) != len(labels) or not len(labels):
        raise InputError(
            f"vectors has {len(vectors)} rows and labels {len(labels)}; one label for each, and at "
            "least 1, is needed"
        )
    if labels.min() < 0:
        raise InputError(f"labels is down to {labels.min()}; classes from 0 are needed")
