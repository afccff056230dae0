"""What is asked of a trained network: its figures, its images, its report."""

from pathlib import Path
from typing import Any

import tyro

from vision_jax.errors import InputError

Workdir = tyro.conf.Positional[Path]


def evaluate(
    workdir: Workdir,
    split: str | None = None,
    checkpoint: str = "best",
    classifier: Path | None = None,
) -> None:
    """Measure a trained network on its test split: recognition, reconstruction and search.

    Prints the figures and writes evaluation.json and, for a classifier, confusion.png into the
    workdir. Example: vision-jax evaluate runs/digits

    Args:
        workdir: Folder of the run.
        split: What to measure on, in tfds's slicing syntax. Default: the run's test split.
        checkpoint: `best` by the validation metric, `last`, or a step.
        classifier: Folder of a classifier's run, by whose features the images of a GAN or a
            variational autoencoder are compared with real ones.
    """
    from vision_jax.evaluation.measure import evaluate_run

    evaluate_run(workdir, split, parse_checkpoint(checkpoint), classifier)


def generate(workdir: Workdir, seed: int = 0, checkpoint: str = "best") -> None:
    """Draw what a GAN or an autoencoder makes: samples, walks between them, reconstructions.

    Writes a PNG of each and all images as generated.npz into the workdir.
    Example: vision-jax generate runs/garments --seed 7

    Args:
        workdir: Folder of the run.
        seed: Of the latents from which new images are made, in [0, 2**32).
        checkpoint: `best` by the validation metric, `last`, or a step.
    """
    from vision_jax.reports.generated import write_run_sheets
    from vision_jax.run.run import load_run

    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}; it must be in [0, 2**32)")
    for path in write_run_sheets(load_run(workdir, parse_checkpoint(checkpoint)), seed=seed):
        print(f"images -> {path}")


def report(workdir: Workdir) -> None:
    """Write report.html: curves, figures, images that were made, and searches to look at.

    Example: vision-jax report runs/digits

    Args:
        workdir: Folder of the run.
    """
    from vision_jax.reports.run import write_report

    print(f"report -> {write_report(workdir)}")


def parse_checkpoint(text: str) -> Any:
    """A checkpoint from the command line's word for it."""
    if text in ("best", "last"):
        return text
    if text.isdecimal():
        return int(text)
    raise InputError(f"checkpoint is {text!r}; it must be best, last or a step")
