"""Recipes of augmentation: what a training step does to its batch, on the device.

A recipe takes one key per image, so that an image's fate depends neither on its neighbours, but
for the one that it may be mixed with, nor on how many devices share the batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from vision_jax.augment.color import color_jitter
from vision_jax.augment.geometry import (
    Images,
    Keys,
    pad_and_crop,
    random_flip,
    random_resized_crop,
)
from vision_jax.augment.mixing import mix, random_erasing
from vision_jax.augment.policies import trivial_augment
from vision_jax.data.loader import Batch

Recipe = Literal["none", "light", "standard", "strong"]

Augment = Callable[[Key[Array, ""], Batch, Array], Batch]
"""(step key, batch, place of its first image in the whole batch) -> batch."""

_SMALL = 64  # pixels below which images lose too much if a part of them is enlarged


def augment(
    key: Key[Array, ""],
    batch: Batch,
    first: Array | int = 0,
    *,
    recipe: Recipe = "none",
    flip: bool = False,
    pad_crop: int = 0,
) -> Batch:
    """Applies the chosen random transforms to a batch of the training split.

    Args:
        key: the step's key.
        batch: `image` (B, H, W, C) in [0, 1], `mask` (B,) and, for `strong`, `label` (B,).
        first: place of the first image in the whole batch; even for `strong`.
        recipe: see the functions of these names.
        flip: mirror half of the images, before the recipe.
        pad_crop: pixels for `pad_and_crop`, before the recipe; 0 for none.

    Returns:
        The batch with its images changed; by `strong` also with `label_other` and
        `label_weight`, see `mixing.mix`.

    Raises:
        InputError: B is odd and the recipe mixes images in pairs.
        ValueError: `pad_crop` is not below the images' height and width.
    """
    keys, images = per_example_keys(key, first, len(batch["image"])), batch["image"]
    crop_keys, flip_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    if pad_crop:
        images = pad_and_crop(crop_keys, images, pad_crop)
    if flip:
        images = random_flip(flip_keys, images)
    return RECIPES[recipe](_drawn(keys, _RECIPE), batch | {"image": images})


def none(keys: Keys, batch: Batch) -> Batch:
    """Nothing."""
    return batch


def light(keys: Keys, batch: Batch) -> Batch:
    """Shifts of up to a sixteenth of the side (1 pixel at least), brightness and contrast ± 20%.

    Nothing is mirrored or turned: for digits, text, and whatever else is another thing then.
    """
    images = _shifted(keys, batch["image"], 16)
    images = color_jitter(
        _drawn(keys, 1), images, brightness=0.2, contrast=0.2, saturation=0.0, hue=0.0
    )
    return batch | {"image": images}


def standard(keys: Keys, batch: Batch) -> Batch:
    """Crops, mirroring, brightness, contrast and saturation ± 20%, hue ± 5% of its circle.

    Images of 64 pixels and more: a window of 25 to 100% of the area, resized to the whole.
    Smaller ones: shifts of up to an eighth of the side. For photographs and objects, of which the
    mirror image is as good; not for digits or text.
    """
    return batch | {"image": _standard_images(keys, batch["image"])}


def strong(keys: Keys, batch: Batch) -> Batch:
    """Crops and mirroring as in `standard`, TrivialAugment, erasing of one in four, and mixing.

    Each pair of images is averaged (mixup) or exchanges a box (cutmix), one as often as the other.
    For long training of a large classifier on what `standard` suits: a short one is the worse for
    it. Its training loss and accuracy are those of mixed images.
    """
    images = _cropped_and_flipped(keys, batch["image"])
    images = trivial_augment(_drawn(keys, 2), images)
    images = random_erasing(_drawn(keys, 3), images, probability=0.25)
    return mix(_drawn(keys, 4), batch | {"image": images})


RECIPES: dict[Recipe, Callable[[Keys, Batch], Batch]] = {
    "none": none,
    "light": light,
    "standard": standard,
    "strong": strong,
}
"""The recipes by the names that a config gives them."""


def per_example_keys(key: Key[Array, ""], first: Array | int, count: int) -> Key[Array, " count"]:
    """One key per image, by its place in the whole batch.

    Args:
        key: the step's key.
        first: place of the first image in the whole batch, () integer.
        count: images here.

    Returns:
        (count,) keys; the same whether the batch is on one device or on many.
    """
    places = jnp.asarray(first, jnp.int32) + jnp.arange(count, dtype=jnp.int32)
    return jax.vmap(partial(jax.random.fold_in, key))(places)


# What an image's key is folded with for the recipe; the two knobs take what it splits into.
_RECIPE = 7


def _drawn(keys: Keys, number: int) -> Keys:
    """The keys of one of several uses."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _shifted(keys: Keys, images: Images, share: int) -> Images:
    pad = min(max(1, round(min(images.shape[1:3]) / share)), min(images.shape[1:3]) - 1)
    return pad_and_crop(keys, images, pad)


def _cropped_and_flipped(keys: Keys, images: Images) -> Images:
    if min(images.shape[1:3]) < _SMALL:
        images = _shifted(keys, images, 8)
    else:
        images = random_resized_crop(keys, images, scale=(0.25, 1.0))
    return random_flip(_drawn(keys, 0), images)


def _standard_images(keys: Keys, images: Images) -> Images:
    images = _cropped_and_flipped(keys, images)
    return color_jitter(
        _drawn(keys, 1), images, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05
    )
