"""Sheets of images that show, epoch by epoch, what a network in training makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vision_jax.data.loader import to_float
from vision_jax.tasks.adversarial import Adversarial
from vision_jax.tasks.base import Task
from vision_jax.tasks.latents import sample_latents
from vision_jax.tasks.reconstruction import Reconstruction
from vision_jax.visual.grids import Pixels, pair_sheet, save_sheet, tile, to_pixels

FOLDER = "epochs"  # where in a workdir they lie
SHOWN = 10  # images that an autoencoder reconstructs
_SAMPLES = 64


def epoch_sheets(task: Task, folder: Path, images: Pixels) -> Callable[[Any, int], None] | None:
    """What a training loop calls after each epoch, to show what the networks make by then.

    Always of the same latents and the same images, so that epochs compare.

    Args:
        task: what is trained.
        folder: where `0001-samples.png` or `0001-reconstructions.png` go.
        images: what an autoencoder reconstructs.

    Returns:
        A function of the state and the number of epochs done; None for a task without images.
    """
    if not isinstance(task, Adversarial | Reconstruction):
        return None
    width = task.latent_size
    latents = None if width is None else sample_latents(jax.random.key(0), _SAMPLES, width)
    decode = jax.jit(task.decode)
    reconstruct = jax.jit(task.reconstruct) if isinstance(task, Reconstruction) else None

    def show(state: Any, epoch: int) -> None:
        sheets = {}
        if reconstruct is not None:
            made = reconstruct(state, to_float(jnp.asarray(images)))
            sheets["reconstructions"] = pair_sheet(images, to_pixels(made))
        if latents is not None:
            sheets["samples"] = tile(to_pixels(decode(state, latents)))
        folder.mkdir(exist_ok=True)
        for name, sheet in sheets.items():
            save_sheet(folder / f"{epoch:04d}-{name}.png", sheet)

    return show
