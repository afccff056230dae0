"""Losses of metric learning: images of a class together, those of other classes apart."""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vision_jax.losses.classification import softmax_cross_entropy
from vision_jax.losses.pairs import (
    First,
    Labels,
    Losses,
    Mask,
    Pairs,
    ReferenceLabels,
    References,
    Vectors,
    cosines,
    log_sum_exp,
    over_pairs,
)

Mining = Literal["batch_hard", "semi_hard"]


def margin_softmax(
    vectors: Float[Array, "batch dim"],
    labels: Int[Array, " batch"],
    centres: Float[Array, "classes *sub_centres dim"],
    *,
    scale: float = 64.0,
    angular_margin: float = 0.0,
    cosine_margin: float = 0.0,
) -> Float[Array, " batch"]:
    """Compute the cross-entropy of scaled cosines with one centre per class, less a margin.

    -log softmax(s c), c being the cosines with all classes, the label's, cos θ, turned into
    cos(θ + m₁) - m₂ (Deng et al., "ArcFace", 2019, equation 4). Beyond θ = π - m₁, where that would
    rise again, it is cos θ - m₁ sin m₁ - m₂. Special cases:

    - no margin: NormSoftmax (Zhai and Wu, "Classification is a strong baseline for deep metric
      learning", 2019); its temperature is 1 / s, 0.05 there;
    - m₂: CosFace (Wang et al., 2018), 0.35 there;
    - m₁: ArcFace, 0.5 there;
    - several centres per class, of which the nearest counts: sub-centre ArcFace (Deng et al.,
      2020).

    Args:
        vectors: (B, D) of any length.
        labels: (B,) in [0, classes).
        centres: (classes, D), or (classes, K, D) for K centres per class; of any length.
        scale: s, above 0.
        angular_margin: m₁ in radians, in [0, π).
        cosine_margin: m₂, at least 0.

    Returns:
        (B,) nats, at least 0.
    """
    flat = centres.reshape(-1, centres.shape[-1])
    near = cosines(vectors, flat).reshape(len(vectors), len(centres), -1).max(-1)
    right = jnp.take_along_axis(near, labels[:, None], 1)
    moved = _turned(right, angular_margin) if angular_margin else right
    chosen = labels[:, None] == jnp.arange(len(centres))
    logits = scale * jnp.where(chosen, moved - cosine_margin, near)
    return softmax_cross_entropy(logits, labels)


def _turned(cosine: Float[Array, "batch 1"], margin: float) -> Float[Array, "batch 1"]:
    """Compute cos(θ + m) from cos θ, and what takes its place beyond π - m."""
    squares = 1 - jnp.square(cosine)
    sine = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    return jnp.where(cosine >= -math.cos(margin), turned, cosine - margin * math.sin(margin))


def proxy_anchor(
    vectors: Float[Array, "batch dim"],
    labels: Int[Array, " batch"],
    proxies: Float[Array, "classes dim"],
    *,
    mask: Bool[Array, " batch"] | None = None,
    margin: float = 0.1,
    alpha: float = 32.0,
) -> Float[Array, ""]:
    """Compute the Proxy-Anchor loss, in which each class's proxy is compared with the whole batch.

    1/|P⁺| Σ log(1 + Σ exp(-α (s - δ))) over the proxies of classes in the batch and their images,
    plus 1/|P| Σ log(1 + Σ exp(α (s + δ))) over all proxies and the images of other classes (Kim et
    al., "Proxy anchor loss for deep metric learning", 2020, equation 4).

    Args:
        vectors: (B, D) of any length; the batch of all devices.
        labels: (B,) in [0, classes).
        proxies: (classes, D) of any length, trained with the network.
        mask: (B,) False for images that do not count.
        margin: δ, at least 0.
        alpha: α, above 0.

    Returns:
        () at least 0; 0 without gradient if no image counts.
    """
    near = cosines(vectors, proxies)
    own = labels[:, None] == jnp.arange(len(proxies))
    there = jnp.ones((len(vectors), 1), bool) if mask is None else mask[:, None]
    pulled = log_sum_exp(-alpha * (near - margin), own & there, axis=0, plus_one=True)
    pushed = log_sum_exp(alpha * (near + margin), ~own & there, axis=0, plus_one=True)
    present = jnp.sum(jnp.any(own & there, 0).astype(near.dtype))
    return jnp.sum(pulled) / jnp.maximum(present, 1) + jnp.sum(pushed) / len(proxies)


def multi_similarity(
    vectors: Vectors,
    labels: Labels,
    references: References | None = None,
    reference_labels: ReferenceLabels | None = None,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float | None = 0.1,
    mask: Mask | None = None,
    first: First = None,
    chunk: int | None = None,
) -> Losses:
    """Compute the multi-similarity loss of each anchor.

    1/α log(1 + Σ exp(-α (s - λ))) over its positives plus 1/β log(1 + Σ exp(β (s - λ))) over its
    negatives, of the pairs that `hard_pairs` keeps (Wang et al., "Multi-similarity loss with
    general pair weighting for deep metric learning", 2019, equations 9 to 15).

    Args:
        vectors: (B, D); see `losses.pairs` for what all losses over pairs take.
        labels: (B,).
        references: (N, D).
        reference_labels: (N,).
        alpha: α, above 0.
        beta: β, above 0.
        base: λ.
        epsilon: see `hard_pairs`; None keeps all pairs.
        mask: (N,).
        first: the first anchor's row among the references.
        chunk: anchors at a time.

    Returns:
        (B,) at least 0.
    """

    def loss(pairs: Pairs) -> Losses:
        kept = pairs if epsilon is None else hard_pairs(pairs, epsilon)
        apart = pairs.cosines - base
        pulled = log_sum_exp(-alpha * apart, kept.positive, plus_one=True) / alpha
        return pulled + log_sum_exp(beta * apart, kept.negative, plus_one=True) / beta

    return over_pairs(
        loss, vectors, labels, references, reference_labels, mask=mask, first=first, chunk=chunk
    )


def hard_pairs(pairs: Pairs, epsilon: float) -> Pairs:
    """Keep the pairs that the network finds hard.

    Positives that are less similar than the most similar negative, and negatives that are more
    similar than the least similar positive, each by up to ε (Wang et al., 2019, equations 11 and
    12).

    Args:
        pairs: of all anchors.
        epsilon: ε, at least 0.

    Returns:
        The same cosines, with fewer positives and negatives.
    """
    near, positive, negative = pairs
    closest = jnp.max(jnp.where(negative, near, -jnp.inf), 1, keepdims=True)
    farthest = jnp.min(jnp.where(positive, near, jnp.inf), 1, keepdims=True)
    # Pairs of NaN are kept, for the loss to show.
    return Pairs(
        near, positive & ~(near - epsilon >= closest), negative & ~(near + epsilon <= farthest)
    )


def triplet(
    vectors: Vectors,
    labels: Labels,
    references: References | None = None,
    reference_labels: ReferenceLabels | None = None,
    *,
    mining: Mining = "batch_hard",
    margin: float = 0.2,
    mask: Mask | None = None,
    first: First = None,
    chunk: int | None = None,
) -> Losses:
    """Compute the triplet loss max(0, d(a, p) - d(a, n) + m) of each anchor.

    d is the Euclidean distance of the vectors scaled to length 1.

    Args:
        vectors: (B, D); see `losses.pairs` for what all losses over pairs take.
        labels: (B,).
        references: (N, D).
        reference_labels: (N,).
        mining: `batch_hard`: the farthest positive and the nearest negative (Hermans et al., "In
            defense of the triplet loss for person re-identification", 2017, equation 5);
            `semi_hard`: the mean over all positives, each with the nearest negative that is farther
            than it, or with the farthest if none is (Schroff et al., "FaceNet", 2015, section 3.2).
        margin: m, at least 0.
        mask: (N,).
        first: the first anchor's row among the references.
        chunk: anchors at a time.

    Returns:
        (B,) at least 0; 0 for anchors without a negative too.
    """
    return over_pairs(
        functools.partial(_batch_hard if mining == "batch_hard" else _semi_hard, margin=margin),
        vectors,
        labels,
        references,
        reference_labels,
        mask=mask,
        first=first,
        chunk=chunk,
    )


def _batch_hard(pairs: Pairs, *, margin: float) -> Losses:
    near, positive, negative = pairs
    farthest = jnp.min(jnp.where(positive, near, jnp.inf), 1)
    closest = jnp.max(jnp.where(negative, near, -jnp.inf), 1)
    losses = jax.nn.relu(_distance(farthest) - _distance(closest) + margin)
    return jnp.where(negative.any(1), losses, 0)


def _semi_hard(pairs: Pairs, *, margin: float) -> Losses:
    near, positive, negative = pairs
    ascending = jnp.sort(jnp.where(negative, near, jnp.inf), 1)
    before = jax.vmap(functools.partial(jnp.searchsorted, side="left"))(ascending, near) - 1
    chosen = jnp.take_along_axis(ascending, jnp.maximum(before, 0), 1)
    losses = jax.nn.relu(_distance(near) - _distance(chosen) + margin)
    total = jnp.sum(jnp.where(positive & negative.any(1, keepdims=True), losses, 0), 1)
    return total / jnp.maximum(positive.sum(1).astype(near.dtype), 1)


def _distance(cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Compute the distance of unit vectors; 0 without gradient where they are equal or infinite."""
    squares = 2 - 2 * cosine
    apart = ~(squares <= 0) & ~jnp.isinf(squares)  # NaN stays NaN
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0)


def smooth_ap(
    vectors: Vectors,
    labels: Labels,
    references: References | None = None,
    reference_labels: ReferenceLabels | None = None,
    *,
    temperature: float = 0.01,
    mask: Mask | None = None,
    first: First = None,
    chunk: int | None = None,
) -> Losses:
    """Compute 1 less the smoothed average precision of each anchor's search.

    AP = 1/|P| Σ rank(i, P) / rank(i, all) over the positives P, where a rank is 1 plus the sum over
    the others j of sigmoid((s_j - s_i) / τ) (Brown et al., "Smooth-AP: smoothing the path towards
    large-scale image retrieval", 2020, equation 6). As in the authors' code, the anchor is one of
    its own positives. Each anchor takes time N², but memory for one anchor at a time.

    Args:
        vectors: (B, D); see `losses.pairs` for what all losses over pairs take.
        labels: (B,).
        references: (N, D).
        reference_labels: (N,).
        temperature: τ, above 0.
        mask: (N,).
        first: the first anchor's row among the references.
        chunk: anchors at a time.

    Returns:
        (B,) in [0, 1).
    """

    def one(row: Pairs) -> Float[Array, ""]:
        # The anchor finds itself with a cosine of 1.
        near = jnp.pad(row.cosines, (0, 1), constant_values=1)
        positive = jnp.pad(row.positive, (0, 1), constant_values=True)
        known = jnp.pad(row.positive | row.negative, (0, 1), constant_values=True)
        better = jax.nn.sigmoid((near - near[:, None]) / temperature)
        better = jnp.where(known & ~jnp.eye(len(near), dtype=bool), better, 0)
        ranks = 1 + better.sum(1)
        among = 1 + jnp.sum(jnp.where(positive, better, 0), 1)
        precision = jnp.sum(jnp.where(positive, among / ranks, 0))
        return 1 - precision / jnp.sum(positive.astype(near.dtype))

    return over_pairs(
        lambda pairs: jax.lax.map(jax.checkpoint(one), pairs),
        vectors,
        labels,
        references,
        reference_labels,
        mask=mask,
        first=first,
        chunk=chunk,
    )
