"""Measuring a classifier class by class: recognition, ranking and calibration."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vision_jax.data.loader import read_parts
from vision_jax.data.sources import Source
from vision_jax.evaluation.ranking import own_scores, rank_classes
from vision_jax.evaluation.reliability import Reliability, softmax
from vision_jax.run.run import Run
from vision_jax.training.confusion import Confusion, average_scores, class_scores, mean_of_known

Part = tuple[Float[np.ndarray, "_ classes"], Int[np.ndarray, " _"]]

_AT_ONCE = 256
_HELD = 1 << 26  # probabilities that are kept, 256 MiB; more are computed twice


def measure_classes(run: Run, source: Source, confusion: Confusion) -> dict[str, Any]:
    """Measure how well a classifier's probabilities rank the images, and whether to believe them.

    Memory is bounded: of more images than `_HELD` probabilities allow, one number each is kept, and
    the images are classified twice.

    Args:
        run: a classifier.
        source: labelled images, at least 1, whose labels are the run's classes.
        confusion: what `run.evaluate` counted on them.

    Returns:
        What `average_scores` makes of the confusion matrix; `mean_average_precision` and
        `mean_roc_auc`, over the classes that have them, see `evaluation.ranking.Ranking`; the
        metrics of `evaluation.reliability.Reliability`; `classes`, for each class by its name
        `images`, `precision`, `recall`, `f1`, `average_precision`, `roc_auc` and
        `calibration_error`, NaN where there is nothing to measure; `reliability`, the bins of
        `Reliability`; of a calibrated run also its `temperature`, and `uncalibrated`, what
        `Reliability` measures and its bins without it.
    """
    classes, temperature = len(confusion), run.temperature
    reliability, uncalibrated = Reliability(classes), Reliability(classes)

    def counted(parts: Iterable[Part]) -> Iterator[Part]:
        for logits, labels in parts:
            probabilities = softmax(logits, temperature)
            reliability.add(probabilities, labels)
            if temperature != 1:
                uncalibrated.add(softmax(logits, 1.0), labels)
            yield probabilities, labels

    kept = list(_parts(run, source)) if len(source) * classes <= _HELD else None
    own = own_scores(counted(kept or _parts(run, source)), classes)
    again = ((softmax(logits, temperature), rows) for logits, rows in kept or _parts(run, source))
    ranking = rank_classes(own, again)
    by_class = class_scores(confusion)._asdict() | ranking._asdict()
    by_class["calibration_error"] = reliability.class_errors
    metrics = {
        **average_scores(confusion),
        "mean_average_precision": mean_of_known(ranking.average_precision),
        "mean_roc_auc": mean_of_known(ranking.roc_auc),
        **reliability.metrics,
        "classes": _by_name(run, {"images": confusion.sum(1)} | by_class),
        "reliability": reliability.bins,
    }
    if temperature != 1:
        metrics["temperature"] = temperature
        metrics["uncalibrated"] = uncalibrated.metrics | {"reliability": uncalibrated.bins}
    return metrics


def _by_name(run: Run, columns: dict[str, np.ndarray]) -> dict[str, dict[str, float | int]]:
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    names = run.info.label_names or ()
    return {
        name: dict(zip(columns, row, strict=True)) for name, row in zip(names, rows, strict=True)
    }


def _parts(run: Run, source: Source) -> Iterator[Part]:
    for rows in read_parts(source, _AT_ONCE):
        yield run.logits(rows["image"]), rows["label"]
