"""Temperature scaling: probabilities that mean what they say."""

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import brentq

from vision_jax.errors import InputError
from vision_jax.evaluation.reliability import Reliability, softmax
from vision_jax.run.calibration import Calibration
from vision_jax.run.run import Run

_RANGE = (0.05, 20.0)
_HELD = 1 << 26  # logits that are kept, 256 MiB
_AT_ONCE = 4096


def calibrate(run: Run, split: str | None = None) -> Calibration:
    """Fit the temperature of a classifier's probabilities, and write it into the run's folder.

    Guo et al., "On calibration of modern neural networks", 2017. Which class has the highest
    probability does not change, and neither does what the run embeds. `load_run` then returns a run
    whose `predict` uses the temperature.

    Args:
        run: a classifier.
        split: images to fit on, in tfds's slicing syntax, which the run was not trained on; the
            run's validation split by default. Of more than fit in memory, an even choice is taken.

    Returns:
        What was written.

    Raises:
        InputError: the run is no classifier, there is no such split, it has none of the run's
            classes, or its images tell of no temperature.
    """
    source = run.match_classes(run.source(split or run.splits.validation)).source
    most = max(1, _HELD // len(run.info.label_names or "?"))
    chosen = source.spaced(most)
    logits, labels = run.logits(chosen), chosen.labels()
    if labels is None or labels.ndim != 1:
        raise InputError(f"{source.name} has no single label for each image; calibration needs one")
    try:
        temperature = fit_temperature(logits, labels)
    except InputError as error:
        raise InputError(f"{source.name}, {source.split}: {error}") from error
    found = Calibration(
        temperature,
        run.step,
        run.identity,
        source.name,
        source.split,
        len(chosen),
        before=_metrics(logits, labels, 1.0),
        after=_metrics(logits, labels, temperature),
    )
    found.write(run.workdir)
    return found


def fit_temperature(
    logits: Float[np.ndarray, "images classes"], labels: Integer[np.ndarray, " images"]
) -> float:
    """Find the temperature at which the log loss is lowest.

    Args:
        logits: (N, classes).
        labels: (N,) in [0, classes).

    Returns:
        The temperature, which logits are divided by.

    Raises:
        InputError: a logit is NaN or infinite; or the temperature is not between 0.05 and 20:
            nearly all or too few images are recognised.
    """
    bad = np.flatnonzero(~np.isfinite(logits).all(1))
    if len(bad):
        raise InputError(
            f"logits has {len(bad)} of {len(logits)} rows with NaN or infinity, the first at "
            f"{bad[:5].tolist()}; finite logits are needed"
        )

    def slope(log_sharpness: float) -> float:
        """Differentiate the log loss by 1 / temperature, with which the slope rises."""
        total = 0.0
        for start in range(0, len(labels), _AT_ONCE):
            part = logits[start : start + _AT_ONCE].astype(np.float64)
            own = np.take_along_axis(part, labels[start : start + _AT_ONCE, None], 1)
            total += float((softmax(part, np.exp(-log_sharpness)) * part).sum() - own.sum())
        return total

    low, high = (-np.log(edge) for edge in reversed(_RANGE))
    if slope(high) <= 0:
        raise InputError(
            "nearly all images are recognised with certainty, so no temperature can be fitted; "
            "images with some mistakes are needed"
        )
    if slope(low) >= 0:
        raise InputError(
            "the images are recognised no better than by chance, so no temperature can be fitted; "
            "a better checkpoint is needed"
        )
    return float(np.exp(-brentq(slope, low, high, xtol=1e-7)))


def _metrics(
    logits: Float[np.ndarray, "images classes"],
    labels: Integer[np.ndarray, " images"],
    temperature: float,
) -> dict[str, float]:
    reliability = Reliability(logits.shape[1])
    for start in range(0, len(labels), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        reliability.add(softmax(logits[part], temperature), labels[part])
    return reliability.metrics
