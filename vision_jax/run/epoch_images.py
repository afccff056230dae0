"""Image grids that show, epoch by epoch, what a model in training makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vision_jax.data.loader import to_float
from vision_jax.files import TEMPORARY
from vision_jax.tasks.base import Decodes, Generates, Reconstructs, Task
from vision_jax.tasks.latents import sample_latents
from vision_jax.visual.grids import Pixels, pair_grid, save_grid, tile, to_pixels

FOLDER = "epochs"  # where in a workdir they lie
SHOWN = 10  # images that an autoencoder reconstructs
_SAMPLES = 64


def epoch_images(task: Task, folder: Path, images: Pixels) -> Callable[[Any, int], None] | None:
    """Build what a training loop calls after each epoch to show what the model makes by then.

    Always from the same latents and the same images, so that epochs compare.

    Args:
        task: what is trained.
        folder: where `0001-samples.png` or `0001-reconstructions.png` go.
        images: what an autoencoder reconstructs.

    Returns:
        A function of the state and the number of epochs done; None for a task without images.
    """
    if not isinstance(task, Decodes):
        return None
    for left in folder.glob(f"{TEMPORARY}*"):
        left.unlink()  # a run that was killed was writing it
    makers: dict[str, Callable[[Any], Any]] = {}
    if isinstance(task, Reconstructs):
        reconstruct = jax.jit(task.reconstruct)
        makers["reconstructions"] = lambda state: pair_grid(
            images, to_pixels(reconstruct(state, to_float(jnp.asarray(images))))
        )
    if isinstance(task, Generates):
        latents = sample_latents(jax.random.key(0), _SAMPLES, task.latent_size)
        decode = jax.jit(task.decode)
        makers["samples"] = lambda state: tile(to_pixels(decode(state, latents)))

    def show(state: Any, epoch: int) -> None:
        folder.mkdir(exist_ok=True)
        for name, make in makers.items():
            save_grid(folder / f"{epoch:04d}-{name}.png", make(state))

    return show
