"""What an index in service is: for the page's filters and fields."""

import math
from pathlib import Path
from typing import Any

from vision_jax.evaluation.scores import read_scores
from vision_jax.explain.methods import METHODS
from vision_jax.serve.galleries import Gallery
from vision_jax.tasks.base import Classifies

_EVERY = 10  # of the measured thresholds, which are 0.001 apart


def describe(gallery: Gallery) -> dict[str, Any]:
    """Return an index's entry of `/api/info`."""
    facts, encoder = gallery.facts, gallery.encoder
    classifies = encoder is not None and isinstance(encoder.run.task, Classifies)
    return {
        "name": gallery.name,
        "images": len(gallery.rows),
        "dim": gallery.index.dim,
        "encoder": _encoder(gallery),
        "can_embed": encoder is not None,
        "can_box": encoder is not None and encoder.can_box,
        "can_explain": encoder is not None and encoder.can_explain,
        "explain_methods": list(METHODS) if classifies else [],
        "labels": _counts("label", facts.labels),
        "splits": _counts("split", facts.splits),
        "folders": _counts("folder", facts.folders),
        "dates": dict(zip(("from", "to"), facts.dates, strict=True)) if facts.dates else None,
        "thresholds": _thresholds(gallery),
    }


def _counts(name: str, counts: dict[str, int]) -> list[dict[str, Any]]:
    return [{name: value, "images": count} for value, count in counts.items()]


def _encoder(gallery: Gallery) -> str:
    origin = gallery.origin
    if gallery.encoder is None:
        return f"the run at step {origin.step} is not there"
    run = gallery.encoder.run
    height, width, _ = run.info.image_shape
    model = getattr(getattr(run.config, "model", None), "name", run.config.name)
    views = f", {origin.views} views" if origin.views != 1 else ""
    return f"{model}, {width}x{height}, step {origin.step}{views}"


def _thresholds(gallery: Gallery) -> list[dict[str, float]]:
    """Return how right hits are by the least score, where the run's evaluation measured it."""
    workdir = gallery.encoder.run.workdir if gallery.encoder else Path(gallery.origin.workdir)
    measured = read_scores(workdir, gallery.origin)
    if measured is None:
        return []
    columns = (measured.curve.thresholds, measured.curve.precision, measured.curve.recall)
    rows = list(zip(*(column[::_EVERY].tolist() for column in columns), strict=True))
    return [
        {"min_score": round(least, 4), "precision": precision, "recall": recall}
        for least, precision, recall in rows
        if not math.isnan(precision)
    ]
