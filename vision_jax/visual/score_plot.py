"""A plot of how right search scores are."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure


def score_plot(
    thresholds: Float[np.ndarray, " thresholds"],
    precision: Float[np.ndarray, " thresholds"],
    recall: Float[np.ndarray, " thresholds"],
) -> Figure:
    """Plot precision and recall against the least score.

    Args:
        thresholds: (T,) ascending.
        precision: (T,) NaN where nothing scores so much.
        recall: (T,).

    Returns:
        One panel, from the first score that leaves something out.
    """
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    first = max(0, int(np.count_nonzero(recall >= 1)) - 1)
    axes.plot(thresholds[first:], precision[first:], label="precision", linewidth=1.5)
    axes.plot(thresholds[first:], recall[first:], label="recall", linewidth=1.5)
    axes.set(xlabel="least score (cosine)", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
