"""Losses of classifiers."""

import jax
import optax
from jaxtyping import Array, Float, Int


def softmax_cross_entropy(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Array, " batch"]:
    """Compute the cross-entropy of each example's softmax with its label.

    Args:
        logits: (B, classes).
        labels: (B,) in [0, classes).
        label_smoothing: probability spread evenly over the classes, in [0, 1) (Szegedy et al.,
            "Rethinking the Inception architecture", 2016).

    Returns:
        (B,) nats, at least 0.
    """
    if label_smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)
