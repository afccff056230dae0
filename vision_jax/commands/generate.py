"""Draw what a run generates."""

from vision_jax.commands.arguments import DataName, Workdir, parse_checkpoint
from vision_jax.errors import InputError


def generate(
    workdir: Workdir, seed: int = 0, checkpoint: str = "best", data: DataName = None
) -> None:
    """Draw what a GAN or an autoencoder makes: samples, interpolations, reconstructions.

    Writes each as a PNG, and all images as generated.npz, into the workdir.
    Example: vision-jax generate runs/garments --seed 7

    Args:
        workdir: Run to draw from.
        seed: Seed of the latents that new images are made from, in [0, 2**32).
        checkpoint: `best` by the validation metric, `last`, or a step.
        data: Where the run's data is now, a folder or a data set's name. Default: where it was in
            training.
    """
    from vision_jax.evaluation.data import EvaluationData
    from vision_jax.reports.generated import image_grids, write_image_grids
    from vision_jax.run.run import load_run

    if not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed}; it must be in [0, 2**32)")
    run = load_run(workdir, parse_checkpoint(checkpoint), data=data)
    for path in write_image_grids(run.workdir, *image_grids(EvaluationData.of(run), seed=seed)):
        print(f"images -> {path}")
