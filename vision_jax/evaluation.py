"""Measuring a trained run: recognition and search, printed and written beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.gallery import measure_retrieval
from vision_jax.run import Run, load_run
from vision_jax.training.checkpoint import Which
from vision_jax.training.metrics import per_class_accuracy


def measure(run: Run, split: str | None = None) -> dict[str, Any]:
    """Measures a run on a split of its data.

    Args:
        run: the trained network.
        split: tfds's slicing syntax; the run's test split by default.

    Returns:
        The task's figures; with labels also `retrieval`, and for a classifier
        `per_class_accuracy` by class name.

    Raises:
        InputError: no such split.
    """
    figures = run.evaluate(split)
    if "confusion" in figures:
        names = run.about.label_names or ()
        shares = per_class_accuracy(figures["confusion"])
        figures["per_class_accuracy"] = dict(zip(names, shares.tolist(), strict=True))
    queries = run.source(split)
    if queries.label_names is not None:
        gallery = run.source(run.config.data.train_split)
        figures["retrieval"] = measure_retrieval(run, gallery, queries)
    return figures


def evaluate_run(workdir: Path, split: str | None, which: Which) -> dict[str, Any]:
    """Measures a run, prints the figures, and writes them into its folder.

    Args:
        workdir: the run's folder.
        split: tfds's slicing syntax; the run's test split by default.
        which: the checkpoint.

    Returns:
        What `measure` returned.

    Raises:
        InputError: the folder holds no run, or there is no such split.
    """
    run = load_run(workdir, which)
    figures = measure(run, split)
    data = run.config.data
    print(f"{run.config.family} of step {run.step} on {data.name}, {split or data.test_split}")
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"  {name:<22}{value:.4f}")
    for name, value in figures.get("per_class_accuracy", {}).items():
        print(f"    {name:<20}{value:.4f}")
    for name, row in figures.get("retrieval", {}).items():
        print(f"  search by {name:<12}" + "  ".join(f"{k} {v:.4f}" for k, v in row.items()))
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in figures.items()}
    path = run.workdir / "evaluation.json"
    path.write_text(json.dumps({"step": run.step, **plain}, indent=2) + "\n")
    if "confusion" in figures:
        from vision_jax.report import confusion_matrix

        picture = run.workdir / "confusion.png"
        confusion_matrix(figures["confusion"], run.about.label_names or ()).savefig(
            picture, dpi=110
        )
        print(f"picture -> {picture}")
    return figures
