"""Sheets of images that show what a trained run makes: samples, walks, reconstructions."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vision_jax.data.loader import read_all
from vision_jax.errors import InputError
from vision_jax.evaluation.memorisation import nearest_training_images
from vision_jax.run.run import Run
from vision_jax.tasks.adversarial import Adversarial
from vision_jax.tasks.latents import Interpolation, interpolate, sample_latents
from vision_jax.tasks.reconstruction import Reconstruction
from vision_jax.visual.grids import Sheet, pair_sheet, save_sheet, tile, to_pixels

SHOWN = 10  # images in a row
_SAMPLES = 64
_WALKS = 8


def run_sheets(run: Run, *, seed: int = 0) -> tuple[dict[str, Sheet], dict[str, np.ndarray]]:
    """Everything there is to see of a trained run.

    Args:
        run: a GAN or an autoencoder.
        seed: of the latents.

    Returns:
        (sheets, arrays) by name: `samples`, `nearest` (each sample above its nearest training
        image, by the cosine of pixels) and `interpolations` of a GAN or variational autoencoder;
        `reconstructions` (test images above, reconstructions below) and `interpolations`, between
        the codes of test images, of an autoencoder.

    Raises:
        InputError: the run makes no images.
    """
    if not isinstance(run.task, Adversarial | Reconstruction):
        raise InputError(
            f"{run.workdir} holds a run of {run.config.name}, which makes no images; "
            "a gan or an autoencoder is needed"
        )
    sheets: dict[str, Sheet] = {}
    arrays: dict[str, np.ndarray] = {}
    if isinstance(run.task, Reconstruction):
        images = read_all(run.source(), limit=_WALKS + SHOWN)["image"]
        arrays["originals"] = images
        arrays["reconstructions"] = to_pixels(run.reconstruct(images))
        shown = slice(None, SHOWN)
        sheets["reconstructions"] = pair_sheet(images[shown], arrays["reconstructions"][shown])
        ends = run.embed(images)
    if run.latent_size is not None:
        key = jax.random.key(np.uint32(seed))
        ends = np.asarray(sample_latents(key, _SAMPLES, run.latent_size))
        arrays |= {"latents": ends, "samples": to_pixels(run.decode(ends))}
        sheets["samples"] = tile(arrays["samples"])
        shown_samples = arrays["samples"][:SHOWN]
        arrays["nearest"], arrays["nearest_cosine"] = nearest_training_images(run, shown_samples)
        sheets["nearest"] = pair_sheet(shown_samples, arrays["nearest"])
    walks = _walks(run, ends)
    arrays["interpolations"] = walks
    sheets["interpolations"] = tile(walks.reshape(-1, *walks.shape[2:]), columns=SHOWN)
    return sheets, arrays


def write_run_sheets(run: Run, *, seed: int = 0) -> list[Path]:
    """Writes `run_sheets` into the run's folder: a PNG per sheet, and `generated.npz`.

    Args:
        run: a GAN or an autoencoder.
        seed: of the latents.

    Returns:
        The files.

    Raises:
        InputError: the run makes no images.
    """
    sheets, arrays = run_sheets(run, seed=seed)
    paths = [run.workdir / f"{name}.png" for name in sheets]
    for path, sheet in zip(paths, sheets.values(), strict=True):
        save_sheet(path, sheet)
    target = run.workdir / "generated.npz"
    np.savez_compressed(target, allow_pickle=False, **arrays)
    return [*paths, target]


def _walks(run: Run, ends: Float[np.ndarray, "ends width"]) -> np.ndarray:
    """Images (walks, steps, H, W, C) on the way from each end to the next."""
    count = min(_WALKS, len(ends) - 1)
    method: Interpolation = "linear" if run.latent_size is None else "spherical"
    start, stop = (jnp.asarray(ends[i : i + count]) for i in (0, 1))
    walks = np.asarray(interpolate(start, stop, SHOWN, method=method))
    pixels = to_pixels(run.decode(walks.reshape(-1, walks.shape[-1])))
    return pixels.reshape(count, SHOWN, *pixels.shape[1:])
