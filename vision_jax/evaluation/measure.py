"""Measuring a trained run: recognition, reconstruction, generation and search."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.data.loader import read_all, read_parts
from vision_jax.data.sources import ArraySource, Source
from vision_jax.evaluation.generation import check_classifier, measure_generation
from vision_jax.evaluation.retrieval import measure_retrieval
from vision_jax.run.run import Run, load_run
from vision_jax.tasks.reconstruction import Reconstruction
from vision_jax.training.checkpoint import Which
from vision_jax.training.metrics import per_class_accuracy

_MAX_PCA_PIXELS = 4096
_AT_ONCE = 256


def measure(run: Run, split: str | None = None, *, classifier: Run | None = None) -> dict[str, Any]:
    """Measures a run on a split of its data.

    Args:
        run: the trained network.
        split: tfds's slicing syntax; the run's test split by default.
        classifier: a trained classifier, to judge generated images by; see `measure_generation`.

    Returns:
        The task's figures; `skipped`, if bad files of the split were left out; with labels also
        `retrieval`, for a classifier `per_class_accuracy` by class name, and for an autoencoder
        `pca_mean_squared_error`, that of as many principal components of the training split as its
        code has numbers.

    Raises:
        InputError: no such split, or the run makes no images for a classifier to judge.
    """
    if classifier is not None:
        check_classifier(run, classifier)
    figures = run.evaluate(split)
    queries, gallery = run.source(split), run.source(run.config.data.train_split)
    if isinstance(run.task, Reconstruction):
        limit = run.config.data.on_device_mib * 2**20
        queries, gallery = (_in_memory(source, limit) for source in (queries, gallery))
        figures |= _measure_pca(run, gallery, queries)
    if classifier is not None:
        figures |= measure_generation(run, classifier)
    if queries.skipped:
        figures["skipped"] = queries.skipped
    if "confusion" in figures:
        names = run.info.label_names or ()
        shares = per_class_accuracy(figures["confusion"])
        figures["per_class_accuracy"] = dict(zip(names, shares.tolist(), strict=True))
    if queries.label_names is not None:
        figures["retrieval"] = measure_retrieval(run, gallery, queries)
    return figures


def evaluate_run(
    workdir: Path, split: str | None, which: Which, classifier: Path | None = None
) -> dict[str, Any]:
    """Measures a run, prints the figures, and writes them into its folder.

    Args:
        workdir: the run's folder.
        split: tfds's slicing syntax; the run's test split by default.
        which: the checkpoint.
        classifier: folder of a classifier's run, to judge generated images by.

    Returns:
        What `measure` returned.

    Raises:
        InputError: the folder holds no run, or there is no such split.
    """
    run = load_run(workdir, which)
    judge = None if classifier is None else load_run(classifier)
    figures = measure(run, split, classifier=judge)
    data = run.config.data
    print(f"{run.config.name} of step {run.step} on {data.name}, {split or data.test_split}")
    for name, value in figures.items():
        if isinstance(value, float | int):
            print(f"  {name:<36}{value:{'.4f' if isinstance(value, float) else 'd'}}")
    for name, value in figures.get("per_class_accuracy", {}).items():
        print(f"    {name:<20}{value:.4f}")
    for name, row in figures.get("retrieval", {}).items():
        print(f"  search by {name:<12}" + "  ".join(f"{k} {v:.4f}" for k, v in row.items()))
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in figures.items()}
    path = run.workdir / "evaluation.json"
    path.write_text(json.dumps({"step": run.step, **plain}, indent=2) + "\n")
    if "confusion" in figures:
        from vision_jax.visual.plots import confusion_matrix

        picture = run.workdir / "confusion.png"
        confusion_matrix(figures["confusion"], run.info.label_names or ()).savefig(picture, dpi=110)
        print(f"picture -> {picture}")
    return figures


def _in_memory(source: Source, limit: int) -> Source:
    """The same images, read from disk once if they take no more than `limit` bytes."""
    if len(source) * np.prod(source.image_shape) > limit:
        return source
    rows = read_all(source)
    return ArraySource.from_arrays(
        rows["image"], rows.get("label"), label_names=source.label_names, name=source.name
    )


def _measure_pca(run: Run, gallery: Source, queries: Source) -> dict[str, float | int]:
    """The error of principal components (Pearson, 1901), the best linear code of a size."""
    width = run.embed(np.zeros((1, *run.info.image_shape), np.uint8)).shape[1]
    pixels = int(np.prod(run.info.image_shape))
    if pixels > _MAX_PCA_PIXELS or width > min(pixels, run.info.train_examples):
        return {}
    total, products = np.zeros(pixels), np.zeros((pixels, pixels))
    for rows in _pixel_rows(gallery):
        total += rows.sum(0)
        products += rows.T @ rows
    mean = total / len(gallery)
    covariance = products / len(gallery) - np.outer(mean, mean)
    components = np.linalg.eigh(covariance)[1][:, -width:]  # in rising order
    error = 0.0
    for rows in _pixel_rows(queries):
        centred = rows - mean
        error += np.square(centred - centred @ components @ components.T).sum()
    return {
        "pca_mean_squared_error": float(error / (len(queries) * pixels)),
        "pca_components": width,
    }


def _pixel_rows(source: Source) -> Iterator[np.ndarray]:
    for rows in read_parts(source, _AT_ONCE):
        yield rows["image"].reshape(len(rows["image"]), -1).astype(np.float64) / 255
