"""Whether probabilities mean what they say: calibration error, Brier score, log loss."""

import numpy as np
from jaxtyping import Float, Int, Integer

BINS = 15
"""Equal parts of [0, 1], as many as Guo et al. take."""

# Equal to scikit-learn's, which keeps a certain and wrong answer from an infinite loss.
_LEAST = float(np.finfo(np.float32).eps)
_EDGES = np.linspace(0, 1, BINS + 1)


def softmax(
    logits: Float[np.ndarray, "part classes"], temperature: float
) -> Float[np.ndarray, "part classes"]:
    """Turn logits into probabilities, as `Run.predict` does at that temperature."""
    scaled = logits / logits.dtype.type(temperature)
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


class Reliability:
    """Counts of predicted probabilities and how often they came true, part by part.

    Probabilities are counted in `BINS` bins of equal width; a bin includes its upper edge.

    Args:
        classes: how many there are.

    Attributes:
        count: (BINS,) images by the probability of their predicted class, the confidence.
        confidence: (BINS,) sums of these confidences.
        right: (BINS,) how many of the images were recognised.
    """

    def __init__(self, classes: int) -> None:
        self.count: Int[np.ndarray, " bins"] = np.zeros(BINS, np.int64)
        self.confidence: Float[np.ndarray, " bins"] = np.zeros(BINS)
        self.right: Int[np.ndarray, " bins"] = np.zeros(BINS, np.int64)
        self._apart: Float[np.ndarray, "classes bins"] = np.zeros((classes, BINS))
        self._log_loss = self._brier = 0.0

    def add(
        self,
        probabilities: Float[np.ndarray, "part classes"],
        labels: Integer[np.ndarray, " part"],
    ) -> None:
        """Count the next images."""
        rows, classes = np.arange(len(labels)), probabilities.shape[1]
        exact = probabilities.astype(np.float64)
        predicted = exact.argmax(1)
        confidence, right = exact[rows, predicted], predicted == labels
        places = np.searchsorted(_EDGES[1:-1], confidence)
        self.count += np.bincount(places, minlength=BINS)
        self.confidence += np.bincount(places, confidence, minlength=BINS)
        self.right += np.bincount(places[right], minlength=BINS)
        own = exact[rows, labels]
        self._log_loss -= float(np.log(np.clip(own, _LEAST, 1 - _LEAST)).sum())
        self._brier += float(np.square(exact).sum() - 2 * own.sum() + len(labels))
        exact[rows, labels] -= 1  # now how far each probability is above what came true
        cells = np.searchsorted(_EDGES[1:-1], probabilities) + BINS * np.arange(classes)
        sums = np.bincount(cells.ravel(), exact.ravel(), minlength=classes * BINS)
        self._apart += sums.reshape(classes, BINS)

    @property
    def metrics(self) -> dict[str, float]:
        """The means over all images; NaN without images.

        `log_loss` in nats, the probabilities clipped as scikit-learn does; `brier_score`, the sum
        over the classes of the squared differences from the truth, in [0, 2]; `calibration_error`,
        the mean distance in a bin between confidence and accuracy (Guo et al., "On calibration of
        modern neural networks", 2017), in [0, 1]; `classwise_calibration_error`, the mean of
        `class_errors` (Kull et al., "Beyond temperature scaling", 2019).
        """
        total = int(self.count.sum())
        if total == 0:
            names = ("log_loss", "brier_score", "calibration_error", "classwise_calibration_error")
            return dict.fromkeys(names, float("nan"))
        return {
            "log_loss": self._log_loss / total,
            "brier_score": self._brier / total,
            "calibration_error": float(np.abs(self.confidence - self.right).sum() / total),
            "classwise_calibration_error": float(self.class_errors.mean()),
        }

    @property
    def class_errors(self) -> Float[np.ndarray, " classes"]:
        """The calibration error of each class's probability, over all images; NaN without images.

        Every image counts, whatever its class: most have a probability near 0, rightly so, and
        the errors are small numbers.
        """
        total = int(self.count.sum())
        return np.abs(self._apart).sum(1) / (total or np.nan)

    @property
    def bins(self) -> dict[str, np.ndarray]:
        """`images` in each bin, and their mean `confidence` and `accuracy`; NaN without images."""
        count = np.where(self.count, self.count, np.nan)
        return {
            "images": self.count,
            "confidence": self.confidence / count,
            "accuracy": self.right / count,
        }
