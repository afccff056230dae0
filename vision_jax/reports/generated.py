"""Image grids of what a trained run makes: samples, interpolations, reconstructions."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vision_jax.data.loader import read_all
from vision_jax.errors import InputError
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.memorisation import nearest_training_images
from vision_jax.files import replacing
from vision_jax.run.run import Run
from vision_jax.tasks.base import Reconstructs
from vision_jax.tasks.latents import Interpolation, interpolate, sample_latents
from vision_jax.visual.grids import Grid, pair_grid, save_grid, tile, to_pixels

SHOWN = 10  # images in a row
_SAMPLES = 64
_WALKS = 8

Grids = dict[str, Grid]


def image_grids(data: EvaluationData, *, seed: int = 0) -> tuple[Grids, dict[str, np.ndarray]]:
    """Make grids of all the images that a run can make.

    Args:
        data: a run that generates or reconstructs images, such as a GAN or an autoencoder, and
            its data.
        seed: seed of the latents, in [0, 2**32).

    Returns:
        (grids, arrays) by name. Where the run generates images: `samples`, `nearest` (each sample
        above its nearest training image, by the cosine of pixels) and `interpolations` between
        samples. Where it reconstructs images: `reconstructions` (test images above, their
        reconstructions below) and, if it generates none, `interpolations` between test images.

    Raises:
        InputError: the run neither generates nor reconstructs images.
    """
    run = data.run
    reconstructs, width = isinstance(run.task, Reconstructs), run.latent_size
    if not reconstructs and width is None:
        raise InputError(
            f"{run.workdir} holds a run that makes no images; a GAN or an autoencoder is needed"
        )
    grids: Grids = {}
    arrays: dict[str, np.ndarray] = {}
    if reconstructs:
        images = read_all(data.test.spaced(_WALKS + SHOWN))["image"]
        arrays |= {"originals": images, "reconstructions": to_pixels(run.reconstruct(images))}
        grids["reconstructions"] = pair_grid(images[:SHOWN], arrays["reconstructions"][:SHOWN])
    if width is None:
        ends = run.embed(images)
    else:
        ends = np.asarray(sample_latents(jax.random.key(np.uint32(seed)), _SAMPLES, width))
        arrays |= {"latents": ends, "samples": to_pixels(run.decode(ends))}
        grids["samples"] = tile(arrays["samples"])
        shown = arrays["samples"][:SHOWN]
        arrays["nearest"], arrays["nearest_cosine"] = nearest_training_images(data.train, shown)
        grids["nearest"] = pair_grid(shown, arrays["nearest"])
    if len(ends) > 1:
        walks = _walks(run, ends)
        arrays["interpolations"] = walks
        grids["interpolations"] = tile(walks.reshape(-1, *walks.shape[2:]), columns=SHOWN)
    return grids, arrays


def write_image_grids(folder: Path, grids: Grids, arrays: dict[str, np.ndarray]) -> list[Path]:
    """Write what `image_grids` returned: a PNG per grid, and `generated.npz` with the arrays.

    Args:
        folder: where to.
        grids: images by name.
        arrays: arrays by name.

    Returns:
        The files.
    """
    paths = [folder / f"{name}.png" for name in grids]
    for path, grid in zip(paths, grids.values(), strict=True):
        save_grid(path, grid)
    target = folder / "generated.npz"
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    with replacing(target) as temporary:
        temporary.write_bytes(packed.getbuffer())
    return [*paths, target]


def _walks(
    run: Run, ends: Float[np.ndarray, "ends size"]
) -> UInt8[np.ndarray, "walks steps height width channels"]:
    """Decode points on the way from each end to the next."""
    count = min(_WALKS, len(ends) - 1)
    method: Interpolation = "linear" if run.latent_size is None else "spherical"
    start, stop = (jnp.asarray(ends[i : i + count]) for i in (0, 1))
    walks = np.asarray(interpolate(start, stop, SHOWN, method=method))
    pixels = to_pixels(run.decode(walks.reshape(-1, walks.shape[-1])))
    return pixels.reshape(count, SHOWN, *pixels.shape[1:])
