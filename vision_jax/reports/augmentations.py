"""A page that shows what augmentation does to the images of a data set."""

import html
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vision_jax.augment import mixing, policies
from vision_jax.augment.draws import per_example_keys
from vision_jax.augment.recipes import RECIPES
from vision_jax.augment.transforms import TRANSFORMS
from vision_jax.bars import tqdm
from vision_jax.data.encode import to_pil
from vision_jax.data.loader import to_float
from vision_jax.data.sources import Source
from vision_jax.reports.searches import spread_over_classes
from vision_jax.visual.grids import to_pixels
from vision_jax.visual.html import image_html, write_page

Picture = UInt8[np.ndarray, "height width channels"]

_DRAWS = 8  # random results per row, beside the original
_CELL = 112  # longer side of a shown image, in pixels
_SHOWN = 4  # images that each recipe is shown on


def write_augmentations(source: Source, path: Path, *, seed: int = 0) -> None:
    """Write a page that shows every recipe and transform on images of a source.

    Args:
        source: the images; the page shows some of different classes, where there are labels.
        path: HTML file to write; it needs no other file.
        seed: seed of the random draws, in [0, 2**32).

    Raises:
        InputError: an image cannot be read.
    """
    images, names = _some_images(source)
    key = jax.random.key(np.uint32(seed))
    parts = {
        "Recipes": _recipes(key, images, names),
        "Transforms": _transforms(key, images[0]),
        "Images mixed in pairs": _mixtures(key, images, names),
        "Operations of RandAugment and TrivialAugment": _operations(images[0]),
    }
    rows = len(RECIPES) - 1 + len(TRANSFORMS) + 2 + len(policies.OPERATIONS)
    with tqdm(total=rows, desc="drawing", unit="row", delay=2, leave=False) as bar:
        sections = []
        for name, rows_html in parts.items():
            body = f"<p>{_INTRODUCTIONS[name]}</p>"
            for row_html in rows_html:
                body += row_html
                bar.update()
            sections.append((name, body))
    write_page(path, f"Augmentations of {source.name}, split {source.split}", sections)


_INTRODUCTIONS = {
    "Recipes": (
        f"The original, then {_DRAWS} random results; a column shares its random draws. Train with "
        "<code>--data.recipe NAME</code>."
    ),
    "Transforms": (
        "Single transforms. Train with <code>--data.transforms NAME NAME …</code>, which applies "
        "them in that order, before the recipe."
    ),
    "Images mixed in pairs": (
        "Part of the recipe <code>strong</code>. The loss weights both labels by the shares below."
    ),
    "Operations of RandAugment and TrivialAugment": (
        "Each operation at strengths from one end of its range to the other."
    ),
}


def _some_images(source: Source) -> tuple[list[Picture], list[str]]:
    """Return images of classes that differ, where there are some, and their names; at least two."""
    kinds, labels = source.labels(), source.label_names
    places = spread_over_classes(kinds, len(source), _SHOWN)
    images = [example["image"] for example in source.read(places)]
    names = [f"image {i}" if kinds is None or labels is None else labels[kinds[i]] for i in places]
    return images * (2 if len(images) == 1 else 1), names * (2 if len(names) == 1 else 1)


def _recipes(key: jax.Array, images: list[Picture], names: list[str]) -> Iterator[str]:
    keys = per_example_keys(key, 0, 2 * _DRAWS)
    for name, recipe in RECIPES.items():
        if name == "none":
            continue
        part, apply = _head(name, _description(recipe)), jax.jit(recipe)
        for place, image in enumerate(images):
            other = (place + 1) % len(images)
            batch = apply(keys, _pairs(image, images[other], _DRAWS))
            captions = [""] * _DRAWS
            if "label_weight" in batch:
                captions = _weights(batch["label_weight"], names[place], names[other])
            part += _row([image], [names[place]], batch["image"][::2], captions)
        yield part


def _transforms(key: jax.Array, image: Picture) -> Iterator[str]:
    keys, originals = per_example_keys(key, 0, _DRAWS), _floats([image] * _DRAWS)
    for name, transform in TRANSFORMS.items():
        drawn = jax.jit(transform)(keys, originals)
        yield _head(name, _description(transform) + _options(transform)) + _row(
            [image], ["original"], drawn, [""] * _DRAWS
        )


def _mixtures(key: jax.Array, images: list[Picture], names: list[str]) -> Iterator[str]:
    first, second = images[:2]
    count = _DRAWS - 1
    for how in (mixing.mixup, mixing.cutmix):
        batch = _pairs(first, second, count)
        mixed, shares = jax.jit(how)(per_example_keys(key, 0, 2 * count), batch["image"])
        yield _head(how.__name__, _description(how) + _options(how)) + _row(
            [first, second], names[:2], mixed[::2], _weights(shares, *names[:2])
        )


def _operations(image: Picture) -> Iterator[str]:
    strengths = jnp.linspace(-1, 1, _DRAWS, dtype=jnp.float32)
    original = _floats([image])[0]

    @jax.jit
    def at_all_strengths(operation: jax.Array) -> jax.Array:
        return jax.lax.map(lambda m: policies.operate(original, operation, m), strengths)

    captions = [f"{strength:+.0%}" for strength in np.asarray(strengths)]
    for number, name in enumerate(policies.OPERATIONS):
        drawn = at_all_strengths(jnp.int32(number))
        yield _head(name.replace("_", " ")) + _row([image], ["original"], drawn, captions)


def _floats(images: Sequence[Picture]) -> jax.Array:
    return to_float(jnp.asarray(np.stack(images)))


def _pairs(first: Picture, second: Picture, count: int) -> dict[str, jax.Array]:
    """Return a batch that repeats a pair of images `count` times."""
    return {
        "image": _floats([first, second] * count),
        "label": jnp.zeros(2 * count, jnp.int32),
        "mask": jnp.ones(2 * count, bool),
    }


def _description(function: Callable[..., Any]) -> str:
    """Return what a function's docstring says before its arguments, as HTML."""
    text = re.split(r"\n\n(?:Args|Returns|Raises):", inspect.getdoc(function) or "")[0]
    marked = re.sub("`(.+?)`", r"<code>\1</code>", html.escape(text, quote=False))
    return "".join(f"<p>{part}</p>" for part in marked.split("\n\n") if part)


def _options(function: Callable[..., Any]) -> str:
    """Return the default values of a function's options, as HTML."""
    options = [
        f"{name}={_value(parameter.default)}"
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    ]
    return f"<p>With <code>{html.escape(', '.join(options))}</code>.</p>" if options else ""


def _value(value: Any) -> str:
    """Return a number or a tuple of numbers, in at most 3 digits each."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))})"
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def _weights(shares: jax.Array, name: str, other: str) -> list[str]:
    return [
        f"{share:.0%} {name}, {1 - share:.0%} {other}" for share in np.asarray(shares)[::2].tolist()
    ]


def _head(name: str, description: str = "") -> str:
    return f"<h3>{html.escape(name)}</h3>{description}"


def _row(
    originals: Sequence[Picture], names: Sequence[str], drawn: jax.Array, captions: Sequence[str]
) -> str:
    cells = [*originals, *to_pixels(np.asarray(drawn))]
    texts = [*names, *captions]
    body = "".join(_cell(cell, text) for cell, text in zip(cells, texts, strict=True))
    return f'<div class="cells">{body}</div>'


def _cell(image: Picture, caption: str) -> str:
    """Show an image at about the size of a cell, without blurring enlarged pixels."""
    picture = to_pil(image)
    if factor := _CELL // max(picture.size):
        size = (picture.width * factor, picture.height * factor)
        return image_html(picture.resize(size, Image.Resampling.NEAREST), caption)
    picture.thumbnail((_CELL, _CELL))
    return image_html(picture, caption, lossy=True)
