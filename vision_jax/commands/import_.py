"""Make a run of weights that were trained elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from vision_jax.config import Fit

if TYPE_CHECKING:
    from vision_jax.run.run import Run


def import_(
    model: tyro.conf.Positional[str],
    workdir: Path,
    weights: str | None = None,
    source: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    fit: Fit | None = None,
) -> None:
    """Make a run of a model and weights that were trained elsewhere.

    `index`, `search`, `evaluate` and the other commands then work as with a run that was trained
    here. Example: vision-jax import efficientnet_lite0 --workdir runs/lite0

    Args:
        model: Name of the model, such as resnet50; a wrong one lists all.
        workdir: Folder of the run.
        weights: A file (safetensors, PyTorch, big_vision .npz, Flax msgpack or Keras), or
            hf://REPO[/FILE]. Default: the weights that come with a package, for efficientnet_lite0,
            efficientnet_lite1 and efficientnet_lite2.
        source: Library whose names the tensors have, such as timm or torchvision. Default: found
            out from the names, or from hf://timm/….
        image_size: Pixels that images are brought to: the side of a square, or height and width.
            Default: the one that the weights were trained for.
        fit: How images of other proportions are brought there: `crop` them, `pad` them with black
            bars, or `stretch` them. Default: crop, by the weights' own share.
    """
    from vision_jax.run.imported import import_weights

    run = import_weights(
        model, weights, workdir=workdir, source=source, image_size=image_size, fit=fit
    )
    print(import_text(run))
    print(
        f"next:\n  vision-jax index {workdir} --images FOLDER --out photos.index\n"
        "  vision-jax search photos.index IMAGE --picture found.png"
    )


def import_text(run: "Run") -> str:
    """Say what an imported run was made of, and how it prepares images."""
    import jax

    from vision_jax.config import ImportedModel
    from vision_jax.data.resize import sides

    config, data, names = run.config, run.config.data, run.info.label_names
    assert isinstance(config, ImportedModel)
    count = sum(leaf.size for leaf in jax.tree.leaves(run.state.params))
    arrays = len(jax.tree.leaves(run.state.variables))
    what = (
        "has no output layer, and embeds" if names is None else f"tells {len(names)} classes apart"
    )
    height, width = sides(data.image_size or 0)
    crop, interpolation, fit = data.resize
    scaled = {
        "crop": f"scaled to cover {round(height / crop)}x{round(width / crop)} pixels and cropped "
        f"around the centre to {height}x{width}",
        "pad": f"scaled into {height}x{width} pixels and filled up with black",
        "stretch": f"stretched to {height}x{width} pixels",
    }[fit]
    return (
        f"{config.model.name} -> {run.workdir}: {count:,} parameters in {arrays} arrays from "
        f"{config.weights.origin}, named as {config.weights.source}'s. It {what}. Images are "
        f"{scaled}, {interpolation}; mean {_values(data.mean)}, std {_values(data.std)}."
    )


def _values(numbers: tuple[float, ...] | None) -> str:
    return " ".join(f"{number:.3g}" for number in numbers or ())
