"""Losses of classifiers, and weights for classes of uneven numbers."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Integer


def softmax_cross_entropy(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    *,
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
    class_weights: Float[Array, " classes"] | None = None,
) -> Float[Array, " batch"]:
    """Compute the cross-entropy of each example's softmax with its label, or its focal loss.

    With t the target distribution, w the weights and p the softmax: the sum over the classes c of
    t_c · w_c · (1 - p_c)^gamma · -log p_c. Smoothed labels are weighed class by class, as PyTorch
    does.

    Args:
        logits: (B, classes).
        labels: (B,) in [0, classes).
        label_smoothing: probability spread evenly over the classes, in [0, 1) (Szegedy et al.,
            "Rethinking the Inception architecture", 2016).
        gamma: at least 0; above it, examples that are recognised already weigh less (Lin et al.,
            "Focal loss for dense object detection", 2017).
        class_weights: (classes,) at least 0; by default all are 1.

    Returns:
        (B,) nats, at least 0.
    """
    if label_smoothing == 0 and gamma == 0 and class_weights is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    if gamma == 0 and class_weights is None:
        return optax.softmax_cross_entropy(logits, targets)
    log_p = jax.nn.log_softmax(logits)
    if gamma > 0:
        # The power's derivative is infinite at 0, where a softmax of 1 is.
        others = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(log_p.dtype).tiny)
        targets = targets * others**gamma
    if class_weights is not None:
        targets = targets * class_weights
    return -jnp.sum(targets * log_p, -1)


def weigh_classes(
    counts: Integer[np.ndarray, " classes"],
    how: Literal["balanced", "effective"],
    *,
    beta: float = 0.999,
) -> Float[np.ndarray, " classes"]:
    """Weigh classes so that rare ones count more, an example 1 on average.

    Args:
        counts: (classes,) examples of each, at least one above 0.
        how: `balanced` weighs inversely to the number of examples n, as scikit-learn's
            `compute_class_weight`; `effective` inversely to their effective number,
            (1 - beta^n) / (1 - beta) (Cui et al., "Class-balanced loss", 2019).
        beta: in [0, 1); 0 weighs all alike, near 1 is `balanced`.

    Returns:
        (classes,) above 0; 1 for a class without examples.
    """
    there = counts > 0
    number = counts[there].astype(np.float64)
    if how == "effective":
        number = -np.expm1(number * np.log(beta)) if beta else np.ones_like(number)
    shares = 1 / number
    weights = np.ones(len(counts))
    weights[there] = shares * counts.sum() / (shares @ counts[there])
    return weights


def sigmoid_cross_entropy(
    logits: Float[Array, "batch labels"],
    labels: Bool[Array, "batch labels"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Array, " batch"]:
    """Compute the cross-entropy of each example's sigmoids with its labels, the mean over labels.

    Args:
        logits: (B, labels).
        labels: (B, labels), which labels are there.
        label_smoothing: share in [0, 1) by which targets move from 0 and 1 towards 0.5.

    Returns:
        (B,) nats, at least 0.
    """
    targets = labels.astype(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(-1)
