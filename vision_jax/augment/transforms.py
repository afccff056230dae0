"""The table of single transforms, which `augment` applies by name.

To add one, write a function of (keys, images) whose options have defaults and whose docstring says
what it does, and add its line to `TRANSFORMS`. The training option, its error message and the page
of `vision-jax augmentations` read the table.
"""

from collections.abc import Callable, Sequence

from vision_jax.augment.color import color_jitter, random_blur, random_grey
from vision_jax.augment.draws import Images, Keys, fold_in
from vision_jax.augment.geometry import (
    random_affine,
    random_flip,
    random_resized_crop,
    random_rotation,
    random_shift,
    random_vertical_flip,
)
from vision_jax.augment.mixing import random_erasing
from vision_jax.augment.policies import rand_augment, trivial_augment
from vision_jax.checked import check_choice
from vision_jax.errors import InputError

Transform = Callable[[Keys, Images], Images]
"""(keys (B,), images (B, H, W, C) in [0, 1]) -> images of the same shape and range."""

TRANSFORMS: dict[str, Transform] = {
    "flip": random_flip,
    "vertical_flip": random_vertical_flip,
    "shift": random_shift,
    "crop": random_resized_crop,
    "rotate": random_rotation,
    "affine": random_affine,
    "jitter": color_jitter,
    "grey": random_grey,
    "blur": random_blur,
    "erase": random_erasing,
    "rand_augment": rand_augment,
    "trivial_augment": trivial_augment,
}
"""The transforms by name, each with its default options."""


def apply_transforms(keys: Keys, images: Images, names: Sequence[str]) -> Images:
    """Apply transforms of the table in the given order, with independent draws.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        names: keys of `TRANSFORMS`; a repeated name is applied again.

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        InputError: a name is not in the table.
    """
    if isinstance(names, str):
        raise InputError(f"transforms is {names!r}; it must be a sequence of names")
    for name in names:
        check_choice(name, tuple(TRANSFORMS), "transforms")
    for number, name in enumerate(names):
        images = TRANSFORMS[name](fold_in(keys, number), images)
    return images
