"""Recipes: what augmentation does to a training batch, on the device.

A recipe takes one key per image, so that the result for an image depends neither on the number of
devices nor on the rest of the batch, except for the image it may be mixed with.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from vision_jax.augment.color import color_jitter, random_blur, random_grey
from vision_jax.augment.draws import Images, Keys, apply_at_random, fold_in, per_example_keys
from vision_jax.augment.geometry import (
    pad_and_crop,
    random_flip,
    random_resized_crop,
    random_shift,
)
from vision_jax.augment.mixing import mix, random_erasing
from vision_jax.augment.policies import trivial_augment
from vision_jax.augment.transforms import apply_transforms
from vision_jax.checked import check_choice
from vision_jax.config import Recipe
from vision_jax.data.loader import Batch
from vision_jax.errors import InputError

Augment = Callable[[Key[Array, ""], Batch, Array], Batch]
"""(step key, batch, position of its first image in the whole batch) -> batch."""

_SMALL = 64  # shorter sides, in pixels, below which enlarging a window loses too much

# What an image's key is folded with; `pad_crop` and `flip` take what it splits into.
_RECIPE, _TRANSFORMS = 7, 8

# A window's area, ratio and corner are drawn with what a key splits into, and by JAX's rule those
# are its folds 0, 1 and 2: the recipes take them for mirroring and colours.
_WINDOW = 5


def augment(
    key: Key[Array, ""],
    batch: Batch,
    first: Array | int = 0,
    *,
    recipe: Recipe = "none",
    flip: bool = False,
    pad_crop: int = 0,
    transforms: Sequence[str] = (),
) -> Batch:
    """Apply random transforms to a training batch: `pad_crop`, `flip`, `transforms`, the recipe.

    Args:
        key: the step's key.
        batch: `image` (B, H, W, C) in [0, 1], `mask` (B,) and, for `strong`, `label` (B,).
        first: position of the first image in the whole batch; even for `strong`.
        recipe: key of `RECIPES`.
        flip: mirror each image left to right with probability 1/2.
        pad_crop: largest shift in pixels, in [0, min(H, W)); see `geometry.pad_and_crop`.
        transforms: keys of `transforms.TRANSFORMS`, applied in this order.

    Returns:
        The batch with its images changed; `strong` adds `label_other` and `label_weight`, see
        `mixing.mix`.

    Raises:
        InputError: a name is in neither table, `pad_crop` is not below the images' shorter side, or
            B is odd and the recipe mixes pairs.
    """
    check_choice(recipe, tuple(RECIPES), "recipe")
    keys, images = per_example_keys(key, first, len(batch["image"])), batch["image"]
    side = min(images.shape[1:3])
    if not 0 <= pad_crop < side:
        raise InputError(f"pad_crop is {pad_crop}; it must be in [0, {side}), the shorter side")
    crop_keys, flip_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    if pad_crop:
        images = pad_and_crop(crop_keys, images, pad_crop)
    if flip:
        images = random_flip(flip_keys, images)
    images = apply_transforms(fold_in(keys, _TRANSFORMS), images, transforms)
    return RECIPES[recipe](fold_in(keys, _RECIPE), batch | {"image": images})


def none(keys: Keys, batch: Batch) -> Batch:
    """Change nothing."""
    return batch


def light(keys: Keys, batch: Batch) -> Batch:
    """Shift by up to a sixteenth of the shorter side; change brightness and contrast by ±20%.

    Shifts are at least 1 pixel. Nothing is mirrored or rotated, so it suits digits, text and other
    images whose meaning depends on orientation.
    """
    images = random_shift(keys, batch["image"], share=1 / 16)
    images = color_jitter(
        fold_in(keys, 1), images, brightness=0.2, contrast=0.2, saturation=0.0, hue=0.0
    )
    return batch | {"image": images}


def standard(keys: Keys, batch: Batch) -> Batch:
    """Crop and mirror; change brightness, contrast and saturation by ±20%, hue by ±5% of a turn.

    Images of 64 pixels and more: a window of 25 to 100% of the area, resized to the full size.
    Smaller ones: shifts of up to an eighth of the shorter side. For photographs and objects, whose
    mirror images are as plausible; not for digits or text.
    """
    images = _crop_and_flip(keys, batch["image"])
    images = color_jitter(
        fold_in(keys, 1), images, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05
    )
    return batch | {"image": images}


def strong(keys: Keys, batch: Batch) -> Batch:
    """Crop and mirror as `standard`, then apply TrivialAugment, erase a box in 1 of 4, and mix.

    Each pair of images is mixed by `mixup` or `cutmix`, with equal probability. For long training
    of a large classifier on images that suit `standard`; short training gets worse. Training loss
    and accuracy are those of the mixed images.
    """
    images = _crop_and_flip(keys, batch["image"])
    images = trivial_augment(fold_in(keys, 2), images)
    images = random_erasing(fold_in(keys, 3), images, probability=0.25)
    return mix(fold_in(keys, 4), batch | {"image": images})


def views(keys: Keys, batch: Batch) -> Batch:
    """Crop hard and mirror; change colours in 4 of 5 images, turn 1 in 5 grey, blur 1 in 2.

    For tasks that compare views of the same image (SimCLR: Chen et al., "A simple framework for
    contrastive learning of visual representations", 2020, appendix A). A window of 8 to 100% of the
    area, resized to the full size; brightness, contrast and saturation ±80%, hue ±20% of a turn.
    Images under 64 pixels: half of these strengths and no blur, as there for CIFAR-10. Not for
    digits or text, which are mirrored too.
    """
    small = min(batch["image"].shape[1:3]) < _SMALL
    color, hue = (0.4, 0.1) if small else (0.8, 0.2)
    images = random_resized_crop(fold_in(keys, _WINDOW), batch["image"])
    images = random_flip(fold_in(keys, 0), images)
    jittered = color_jitter(
        fold_in(keys, 1), images, brightness=color, contrast=color, saturation=color, hue=hue
    )
    images = apply_at_random(fold_in(keys, 2), 0.8, jittered, images)
    images = random_grey(fold_in(keys, 3), images)
    return batch | {"image": images if small else random_blur(fold_in(keys, 4), images)}


RECIPES: dict[Recipe, Callable[[Keys, Batch], Batch]] = {
    "none": none,
    "light": light,
    "standard": standard,
    "strong": strong,
    "views": views,
}
"""The recipes by name."""


def _crop_and_flip(keys: Keys, images: Images) -> Images:
    if min(images.shape[1:3]) < _SMALL:
        images = random_shift(keys, images, share=1 / 8)
    else:
        images = random_resized_crop(fold_in(keys, _WINDOW), images, scale=(0.25, 1.0))
    return random_flip(fold_in(keys, 0), images)
