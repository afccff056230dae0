"""A page that shows what augmentation makes of a data set's images."""

import html
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm

from vision_jax.augment import color, geometry, mixing, policies
from vision_jax.augment.draws import per_example_keys
from vision_jax.augment.recipes import RECIPES
from vision_jax.data.loader import to_float
from vision_jax.data.sources import Source
from vision_jax.visual.grids import to_pixels
from vision_jax.visual.html import sheet_picture, write_page

Picture = UInt8[np.ndarray, "height width channels"]
Draws = Float[np.ndarray, "draws height width channels"]

_DRAWS = 8  # in a row, beside the original
_CELL = 112  # pixels of the longer side of what is shown
_SHOWN = 4  # images that each recipe is shown on
_LOOKED_AT = 64  # images among which those of different classes are sought


def _shifts(keys: Any, images: Any) -> Any:
    return geometry.pad_and_crop(keys, images, max(1, min(images.shape[1:3]) // 8))


_TRANSFORMS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "Pad and crop": ("Shifts of up to an eighth of the side; the border is mirrored.", _shifts),
    "Random resized crop": (
        "A window of 8 to 100% of the area, 3:4 to 4:3, resized to the whole.",
        geometry.random_resized_crop,
    ),
    "Flip": ("Mirrored left to right, one in two.", geometry.random_flip),
    "Vertical flip": ("Mirrored top to bottom, one in two.", geometry.random_vertical_flip),
    "Rotation": ("Up to 15 degrees either way.", geometry.random_rotation),
    "Affine": (
        "Turns of up to 15 degrees, shifts of up to 10%, sizes of 90 to 110%, shears of up to 10 "
        "degrees.",
        geometry.random_affine,
    ),
    "Colour jitter": (
        "Brightness, contrast and saturation ± 40%, hue ± 10% of its circle; grey images have "
        "neither saturation nor hue.",
        color.color_jitter,
    ),
    "RandAugment": ("Two operations of the table below, at 30%.", policies.rand_augment),
    "TrivialAugment": (
        "One operation of the table below, at a random strength.",
        policies.trivial_augment,
    ),
    "Random erasing": (
        "A box of 2 to 33% of the area in a random colour; here always.",
        partial(mixing.random_erasing, probability=1.0),
    ),
}


def write_augmentations(source: Source, path: Path, *, seed: int = 0) -> None:
    """Writes a page with every recipe and transform on images of a source.

    Args:
        source: the images; of one class each, where there are labels.
        path: the page, which needs no other file.
        seed: of the draws, in [0, 2**32).

    Raises:
        InputError: an image cannot be read.
    """
    images, names = _some_images(source)
    key = jax.random.key(np.uint32(seed))
    with tqdm(
        total=len(RECIPES) + len(_TRANSFORMS) + 3, desc="drawing", unit="row", delay=2, leave=False
    ) as bar:
        sections = []
        for name, part in (
            ("Recipes: --data.recipe", _recipes(key, images, names, bar.update)),
            ("Transforms", _transforms(key, images[0], bar.update)),
            ("Images mixed in pairs", _mixtures(key, images, names, bar.update)),
            ("Operations of RandAugment and TrivialAugment", _operations(images[0])),
        ):
            sections.append((name, part))
    write_page(path, f"Augmentations of {source.name}, {source.split}", sections)


def _some_images(source: Source) -> tuple[list[Picture], list[str]]:
    """The first images of different classes, and what to call them; two at least."""
    found: dict[int, Picture] = {}
    for index in range(min(_LOOKED_AT, len(source))):
        (example,) = source.read([index])
        found.setdefault(example.get("label", index), example["image"])
        if len(found) == _SHOWN:
            break
    labels = source.label_names
    names = [f"image {i}" if labels is None else labels[i] for i in found]
    images = list(found.values())
    return images * (2 if len(images) == 1 else 1), names * (2 if len(names) == 1 else 1)


def _recipes(
    key: jax.Array, images: list[Picture], names: list[str], done: Callable[[], Any]
) -> str:
    parts = []
    for name, recipe in RECIPES.items():
        parts.append(_head(name, inspect.getdoc(recipe) or ""))
        apply = jax.jit(recipe)
        for place, image in enumerate(images):
            other = (place + 1) % len(images)
            batch = apply(_keys(key, 2 * _DRAWS), _pairs(image, images[other]))
            captions = [""] * _DRAWS
            if "label_weight" in batch:
                captions = _weights(batch["label_weight"], names[place], names[other])
            parts.append(_row([image], [names[place]], batch["image"][::2], captions))
        done()
    return "".join(parts)


def _transforms(key: jax.Array, image: Picture, done: Callable[[], Any]) -> str:
    parts = []
    for name, (about, transform) in _TRANSFORMS.items():
        drawn = jax.jit(transform)(_keys(key, _DRAWS), _floats([image] * _DRAWS))
        parts.append(_head(name, about) + _row([image], ["original"], drawn, [""] * _DRAWS))
        done()
    return "".join(parts)


def _mixtures(
    key: jax.Array, images: list[Picture], names: list[str], done: Callable[[], Any]
) -> str:
    first, second = images[:2]
    parts = []
    for name, how, about in (
        ("mixup", mixing.mixup, "Averages; the weight is drawn from Beta(0.2, 0.2)."),
        ("cutmix", mixing.cutmix, "A box is exchanged; its area is uniform before it is cut."),
    ):
        count = _DRAWS - 1
        batch = _pairs(first, second, count)
        mixed, shares = jax.jit(how)(_keys(key, 2 * count), batch["image"])
        captions = _weights(shares, *names[:2])
        parts.append(_head(name, f"{about} The loss has the same shares of both labels."))
        parts.append(_row([first, second], names[:2], mixed[::2], captions))
        done()
    return "".join(parts)


def _operations(image: Picture) -> str:
    strengths = jnp.linspace(-1, 1, _DRAWS, dtype=jnp.float32)
    original = _floats([image])[0]

    @jax.jit
    def at_all_strengths(operation: jax.Array) -> jax.Array:
        return jax.lax.map(lambda m: policies.operate(original, operation, m), strengths)

    rows = [
        _head(name.replace("_", " "), "")
        + _row(
            [image],
            ["original"],
            at_all_strengths(jnp.int32(number)),
            [f"{m:+.0%}" for m in np.asarray(strengths)],
        )
        for number, name in enumerate(policies.OPERATIONS)
    ]
    return "<p>Each at strengths from end to end of its range.</p>" + "".join(rows)


def _keys(key: jax.Array, count: int) -> jax.Array:
    return per_example_keys(key, 0, count)


def _floats(images: Sequence[Picture]) -> jax.Array:
    return to_float(jnp.asarray(np.stack(images)))


def _pairs(first: Picture, second: Picture, count: int = _DRAWS) -> dict[str, jax.Array]:
    """A batch of so many times the same two images."""
    return {
        "image": _floats([first, second] * count),
        "label": jnp.zeros(2 * count, jnp.int32),
        "mask": jnp.ones(2 * count, bool),
    }


def _weights(shares: jax.Array, name: str, other: str) -> list[str]:
    return [
        f"{share:.2f} {name}, {1 - share:.2f} {other}" for share in np.asarray(shares)[::2].tolist()
    ]


def _head(name: str, about: str) -> str:
    return f"<h3>{html.escape(name)}</h3>" + (f"<p>{html.escape(about)}</p>" if about else "")


def _row(
    originals: Sequence[Picture], names: Sequence[str], drawn: jax.Array, captions: Sequence[str]
) -> str:
    cells = [*originals, *to_pixels(np.asarray(drawn))]
    texts = [*names, *captions]
    return (
        '<div class="cells">'
        + "".join(sheet_picture(_cell(c), text) for c, text in zip(cells, texts, strict=True))
        + "</div>"
    )


def _cell(image: Picture) -> Image.Image:
    """An image of about the size of a cell, sharp-edged if it is enlarged."""
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    factor = _CELL // max(picture.size)
    if factor:
        size = (picture.width * factor, picture.height * factor)
        return picture.resize(size, Image.Resampling.NEAREST)
    picture.thumbnail((_CELL, _CELL))
    return picture
