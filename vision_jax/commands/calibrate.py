"""Calibrate a classifier's probabilities."""

from vision_jax.commands.arguments import DataName, Workdir, parse_checkpoint


def calibrate(
    workdir: Workdir, split: str | None = None, checkpoint: str = "best", data: DataName = None
) -> None:
    """Fit a temperature, so that a classifier's probabilities mean what they say.

    Networks are often too sure of their answers. One number divides their logits, fitted on images
    that they were not trained on (Guo et al., 2017), and is written into the workdir as
    calibration.json. Probabilities use it from then on; answers and embeddings stay the same.
    Example: vision-jax calibrate runs/digits

    Args:
        workdir: Run of a classifier.
        split: Images to fit on, in tfds's slicing syntax. Default: the run's validation split.
        checkpoint: `best` by the validation metric, `last`, or a step; the temperature is for it
            alone.
        data: Where the run's data is now, a folder or a data set's name. Default: where it was in
            training.
    """
    from vision_jax.evaluation.calibration import calibrate
    from vision_jax.reports.metrics import calibration_rows
    from vision_jax.run.calibration import FILE
    from vision_jax.run.run import load_run
    from vision_jax.visual.text import text_table

    run = load_run(workdir, parse_checkpoint(checkpoint), data=data)
    found = calibrate(run, split)
    print(
        f"{workdir}, step {found.step}, on {found.images} images of {found.data}, {found.split}: "
        f"temperature {found.temperature:.4g}"
    )
    print(text_table(*calibration_rows(found.before, found.after), indent=2))
    print(f"temperature -> {workdir / FILE}")
