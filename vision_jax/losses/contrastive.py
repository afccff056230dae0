"""Losses that learn from views of images, with labels or without."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vision_jax.losses.pairs import (
    First,
    Labels,
    Losses,
    Mask,
    Pairs,
    ReferenceLabels,
    References,
    Vectors,
    log_sum_exp,
    over_pairs,
    unit,
)

Views = Float[Array, "batch dim"]
Counted = Bool[Array, " batch"]


def supervised_contrastive(
    vectors: Vectors,
    labels: Labels,
    references: References | None = None,
    reference_labels: ReferenceLabels | None = None,
    *,
    temperature: float = 0.1,
    mask: Mask | None = None,
    first: First = None,
    chunk: int | None = None,
) -> Losses:
    """Compute the supervised contrastive loss of each anchor.

    -1/|P| Σ log(exp(s_p / τ) / Σ exp(s_a / τ)), the outer sum over its positives, the inner one
    over all references but itself (Khosla et al., "Supervised contrastive learning", 2020,
    equation 2). With two views of each image and the image's number as label it is NT-Xent, the
    loss of SimCLR (Chen et al., "A simple framework for contrastive learning of visual
    representations", 2020, equation 1).

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
        (B,) nats, at least 0.
    """

    def loss(pairs: Pairs) -> Losses:
        logits = pairs.cosines / temperature
        count = jnp.maximum(pairs.positive.sum(1).astype(logits.dtype), 1)
        mean = jnp.sum(jnp.where(pairs.positive, logits, 0), 1) / count
        return log_sum_exp(logits, pairs.positive | pairs.negative) - mean

    return over_pairs(
        loss, vectors, labels, references, reference_labels, mask=mask, first=first, chunk=chunk
    )


def vicreg(
    left: Views,
    right: Views,
    *,
    mask: Counted | None = None,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Float[Array, ""]:
    """Compute the VICReg loss of two views of a batch.

    The sum of λ times the mean squared difference of the views; μ times the mean over dimensions
    and views of max(0, 1 - √(variance + 10⁻⁴)); and ν times the squared covariances of different
    dimensions, summed over both views and divided by D (Bardes et al., "VICReg", 2022, equations 1
    to 6; weighed as in the authors' code).

    Args:
        left: (B, D) of one view of each image; the batch of all devices.
        right: (B, D) of the other.
        mask: (B,) False for images that do not count.
        invariance: λ.
        variance: μ.
        covariance: ν.

    Returns:
        () at least 0; 0 without gradient if no image counts.
    """
    weights, count = _weights(left, mask)
    apart = jnp.sum(jnp.square(left - right) * weights) / (count * left.shape[1])
    spread = decorrelation = jnp.zeros((), left.dtype)
    for view in (left, right):
        centred = (view - jnp.sum(view * weights, 0) / count) * weights
        products = _products(centred, centred) / jnp.maximum(count - 1, 1)
        diagonal = jnp.diagonal(products)
        spread += jnp.mean(jax.nn.relu(1 - jnp.sqrt(diagonal + 1e-4))) / 2
        decorrelation += (jnp.sum(jnp.square(products)) - jnp.sum(jnp.square(diagonal))) / len(
            diagonal
        )
    loss = invariance * apart + variance * spread + covariance * decorrelation
    return jnp.where(weights.any(), loss, 0)


def barlow_twins(
    left: Views,
    right: Views,
    *,
    mask: Counted | None = None,
    redundancy: float = 0.0051,
) -> Float[Array, ""]:
    """Compute the Barlow Twins loss of two views of a batch.

    Σ (1 - C_ii)² + λ Σ C_ij² over i ≠ j, C being the correlations between the dimensions of the two
    views (Zbontar et al., "Barlow twins", 2021, equations 1 and 2; 10⁻⁵ is added to variances, as
    the authors' batch norm does).

    Args:
        left: (B, D) of one view of each image; the batch of all devices.
        right: (B, D) of the other.
        mask: (B,) False for images that do not count.
        redundancy: λ.

    Returns:
        () at least 0; 0 without gradient if no image counts.
    """
    weights, count = _weights(left, mask)
    scaled = []
    for view in (left, right):
        centred = (view - jnp.sum(view * weights, 0) / count) * weights
        scaled.append(centred * jax.lax.rsqrt(jnp.sum(jnp.square(centred), 0) / count + 1e-5))
    correlations = _products(*scaled) / count
    diagonal = jnp.diagonal(correlations)
    others = jnp.sum(jnp.square(correlations)) - jnp.sum(jnp.square(diagonal))
    return jnp.where(weights.any(), jnp.sum(jnp.square(1 - diagonal)) + redundancy * others, 0)


def _weights(view: Views, mask: Counted | None) -> tuple[Float[Array, "batch 1"], Float[Array, ""]]:
    """Weigh each image by 0 or 1, and count those that count."""
    there = jnp.ones(len(view), bool) if mask is None else mask
    weights = there[:, None].astype(view.dtype)
    return weights, jnp.maximum(jnp.sum(weights), 1)


def _products(
    left: Float[Array, "batch dim"], right: Float[Array, "batch dim"]
) -> Float[Array, "dim dim"]:
    return jnp.matmul(left.T, right, precision=jax.lax.Precision.HIGHEST)


def prediction(
    predictions: Float[Array, "batch views dim"], targets: Float[Array, "batch views dim"]
) -> Float[Array, " batch"]:
    """Compute how far each view's prediction is from the targets of the image's other views.

    The mean over pairs of different views of 2 - 2 cos, the squared distance of vectors of length
    1. No gradient flows to the targets. With targets of an averaged network it is the loss of BYOL
    (Grill et al., "Bootstrap your own latent", 2020, equation 2, halved); with those of the network
    itself that of SimSiam (Chen and He, "Exploring simple siamese representation learning", 2021,
    equation 4, times 2 and plus 2).

    Args:
        predictions: (B, V, D) the predictor's output for each view; V at least 2.
        targets: (B, V, D) the projections.

    Returns:
        (B,) in [0, 4].
    """
    views = predictions.shape[1]
    near = jnp.einsum(
        "bvd,bwd->bvw",
        unit(predictions),
        unit(jax.lax.stop_gradient(targets)),
        precision=jax.lax.Precision.HIGHEST,
    )
    others = jnp.sum(near, (1, 2)) - jnp.trace(near, axis1=1, axis2=2)
    return 2 - 2 * others / (views * (views - 1))


def dino(
    student: Float[Array, "batch views prototypes"],
    teacher: Float[Array, "batch global_views prototypes"],
    centre: Float[Array, " prototypes"],
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Float[Array, " batch"]:
    """Compute the cross-entropy between the teacher's and the student's view of each image.

    -Σ softmax((t - c) / τ_t) log softmax(s / τ_s), the mean over pairs of different views (Caron et
    al., "Emerging properties in self-supervised vision transformers", 2021, equations 1 to 3). No
    gradient flows to the teacher.

    Args:
        student: (B, V, K) logits of all views, the global ones first; V at least 2.
        teacher: (B, G, K) logits of the global views.
        centre: (K,) mean of the teacher's logits over earlier batches, see `dino_centre`.
        student_temperature: τ_s, above 0.
        teacher_temperature: τ_t, above 0; raised from 0.04 to 0.07 in the paper's first epochs.

    Returns:
        (B,) nats, at least 0.
    """
    given = jax.lax.stop_gradient(jax.nn.softmax((teacher - centre) / teacher_temperature, -1))
    logs = jax.nn.log_softmax(student / student_temperature, -1)
    losses = -jnp.einsum("bgk,bvk->bgv", given, logs, precision=jax.lax.Precision.HIGHEST)
    views, global_views = student.shape[1], teacher.shape[1]
    others = jnp.sum(losses, (1, 2)) - jnp.trace(losses, axis1=1, axis2=2)
    return others / (views * global_views - global_views)


def dino_centre(
    centre: Float[Array, " prototypes"],
    teacher: Float[Array, "batch global_views prototypes"],
    *,
    mask: Counted | None = None,
    momentum: float = 0.9,
) -> Float[Array, " prototypes"]:
    """Move the centre towards the mean of the teacher's logits (Caron et al., 2021, equation 4).

    Args:
        centre: (K,) the centre before.
        teacher: (B, G, K) logits; the batch of all devices.
        mask: (B,) False for images that do not count.
        momentum: in [0, 1].

    Returns:
        (K,) the centre after; unchanged if no image counts.
    """
    means = jnp.mean(teacher, 1)
    weights, count = _weights(means, mask)
    mean = jnp.where(weights.any(), jnp.sum(means * weights, 0) / count, centre)
    return jax.lax.stop_gradient(momentum * centre + (1 - momentum) * mean)
