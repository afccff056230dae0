"""Classify images."""

from pathlib import Path

from vision_jax.commands.arguments import Workdir, parse_checkpoint
from vision_jax.config import BadFiles


def predict(
    workdir: Workdir,
    images: tuple[str, ...],
    out: Path,
    split: str | None = None,
    top: int = 5,
    checkpoint: str = "best",
    bad_files: BadFiles | None = None,
) -> None:
    """Classify any number of images and write what each is taken for into a table.

    Columns: file, class, probability and, side by side or as a list in JSON and Parquet, the
    likeliest classes. A run that has learnt several labels an image adds labels: those that reach
    their threshold, 0.5 unless `evaluate --tune-thresholds` chose others. Example:
    vision-jax predict runs/digits --images ~/photos scan.png --out predictions.csv

    Args:
        workdir: Run of a classifier, trained or imported.
        images: Image files, folders with all below them, or names of data sets; several of them.
        out: File to write, replaced only once the new one is whole. Its suffix is the format: .csv,
            .json, .jsonl (JSON lines) or .parquet.
        split: Which part of a folder or data set, in tfds's slicing syntax. Default: all of it,
            whatever the subfolders are called.
        top: How many classes to name for each image.
        checkpoint: `best` by the validation metric, `last`, or a step.
        bad_files: Unreadable images: stop and name the file, or skip them with a warning. Default:
            as in the run's training.
    """
    from vision_jax.export.predictions import check_table, predictions, write_predictions
    from vision_jax.run.run import load_run

    check_table(out)
    run = load_run(workdir, parse_checkpoint(checkpoint))
    rows = predictions(run, images, split=split, top=top, bad_files=bad_files)
    print(f"{write_predictions(rows, out)} images -> {out}")
