"""Measure a run."""

from pathlib import Path

from vision_jax.commands.arguments import Workdir, parse_checkpoint


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
