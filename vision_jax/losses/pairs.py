"""Cosines and pairs of a batch, for losses that compare its examples.

A loss over pairs compares each anchor with all references and returns one value per anchor, so that
devices share the work. Each takes these arguments:

- `vectors` (B, D) of any length, the anchors, and their `labels` (B,);
- `references` (N, D) and `reference_labels` (N,), what they are compared with: the batch of all
  devices as `tasks.base.gather` brings it together, or a memory of earlier batches. By default the
  anchors themselves;
- `mask` (N,), False for references that do not count, such as padding;
- `first`, the row of the first anchor among the references, which keeps anchors from being
  compared with themselves; on several devices B · `axis_index`. None: the anchors are not among
  the references;
- `chunk`, how many anchors to compare at a time. The matrix of cosines is then (chunk, N), and the
  backward pass computes it again; values and gradients stay equal.

An anchor that is masked, or has no positive (another reference of its label), has a loss of 0 and
no gradient; so does a batch without positives. Zero vectors have a cosine of 0 with everything and
no gradient. The loss of a batch is the mean over the anchors that count.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Vectors: TypeAlias = Float[Array, "anchors dim"]
Labels: TypeAlias = Int[Array, " anchors"]
References: TypeAlias = Float[Array, "items dim"]
ReferenceLabels: TypeAlias = Int[Array, " items"]
Mask: TypeAlias = Bool[Array, " items"]
First: TypeAlias = int | Int[Array, ""] | None
Losses: TypeAlias = Float[Array, " anchors"]


class Pairs(NamedTuple):
    """Anchors compared with references.

    Attributes:
        cosines: (A, N) in [-1, 1].
        positive: (A, N) True where the reference counts, is not the anchor itself, and has its
            label.
        negative: (A, N) True where it counts and has another label.
    """

    cosines: Float[Array, "anchors items"]
    positive: Bool[Array, "anchors items"]
    negative: Bool[Array, "anchors items"]


def unit(vectors: Float[Array, "*rows dim"]) -> Float[Array, "*rows dim"]:
    """Scale vectors to length 1.

    Args:
        vectors: any shape; the last axis is that of the vectors.

    Returns:
        The same shape. A zero vector stays zero and passes no gradient; NaN stays NaN.
    """
    squares = jnp.sum(jnp.square(vectors), -1, keepdims=True)
    there = squares != 0
    return jnp.where(there, vectors * jax.lax.rsqrt(jnp.where(there, squares, 1)), 0)


def cosines(
    vectors: Float[Array, "rows dim"], others: Float[Array, "items dim"]
) -> Float[Array, "rows items"]:
    """Compute the cosines of vectors with others, in full float32 precision.

    Args:
        vectors: (B, D).
        others: (N, D).

    Returns:
        (B, N) in [-1, 1]; 0 where either is zero.
    """
    return jnp.matmul(unit(vectors), unit(others).T, precision=jax.lax.Precision.HIGHEST)


def log_sum_exp(
    values: Float[Array, "rows columns"],
    where: Bool[Array, "rows columns"],
    *,
    axis: int = 1,
    plus_one: bool = False,
) -> Float[Array, " kept"]:
    """Compute log Σ exp over some of the values, without overflow.

    Args:
        values: (A, N).
        where: (A, N) which of them to sum.
        axis: along which.
        plus_one: whether to add 1 to the sum.

    Returns:
        The other axis; 0 without gradient where there is nothing to sum.
    """
    lowest = 0.0 if plus_one else -jnp.inf
    greatest = jnp.max(jnp.where(where, values, lowest), axis, keepdims=True)
    greatest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(greatest), greatest, 0))
    total = jnp.sum(jnp.exp(jnp.where(where, values - greatest, -jnp.inf)), axis)
    greatest = jnp.squeeze(greatest, axis)
    if plus_one:
        total = total + jnp.exp(-greatest)
    there = total != 0  # NaN stays NaN, for the loss to show
    return jnp.where(there, jnp.log(jnp.where(there, total, 1)) + greatest, 0)


def over_pairs(
    loss: Callable[[Pairs], Losses],
    vectors: Vectors,
    labels: Labels,
    references: References | None = None,
    reference_labels: ReferenceLabels | None = None,
    *,
    mask: Mask | None = None,
    first: First = None,
    chunk: int | None = None,
) -> Losses:
    """Compare anchors with references, a chunk of anchors at a time.

    Args:
        loss: from pairs (A, N) to a loss for each anchor (A,); its gradient must be finite for
            anchors without positives or negatives too.
        vectors: see the module, as all other arguments.
        labels: (B,).
        references: (N, D).
        reference_labels: (N,).
        mask: (N,).
        first: the first anchor's row.
        chunk: anchors at a time, at least 1.

    Returns:
        (B,) 0 for anchors that are masked or have no positive.
    """
    if references is None or reference_labels is None:
        references, reference_labels, first = vectors, labels, 0
    known, known_labels = unit(references), reference_labels
    counts = jnp.ones(len(known), bool) if mask is None else mask
    rows = jnp.arange(len(known))
    # Row N stands for anchors that are not among the references.
    places = jnp.arange(len(vectors)) + (len(known) if first is None else first)

    def part(anchors: Vectors, own: Labels, places: Int[Array, " anchors"]) -> Losses:
        near = jnp.matmul(anchors, known.T, precision=jax.lax.Precision.HIGHEST)
        others = counts & (rows != places[:, None])
        same = own[:, None] == known_labels
        pairs = Pairs(near, same & others, ~same & others)
        there = jnp.take(counts, places, mode="fill", fill_value=True)
        return jnp.where(there & pairs.positive.any(1), loss(pairs), 0)

    anchors = unit(vectors)
    if chunk is None or chunk >= len(vectors):
        return part(anchors, labels, places)
    parts = -(-len(vectors) // chunk)
    padding = parts * chunk - len(vectors)
    padded = [
        jnp.pad(rows, [(0, padding)] + [(0, 0)] * (rows.ndim - 1)).reshape(
            parts, chunk, *rows.shape[1:]
        )
        for rows in (anchors, labels, places)
    ]
    losses = jax.lax.map(lambda rows: jax.checkpoint(part)(*rows), tuple(padded))
    return losses.reshape(-1)[: len(vectors)]
