"""Draw what a run generates."""

from vision_jax.commands.arguments import Workdir, parse_checkpoint
from vision_jax.errors import InputError


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
