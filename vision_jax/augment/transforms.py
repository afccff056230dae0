"""The table of single transforms, which `augment` applies by name.

To add one, write a function of (keys, images) whose options have defaults and whose docstring says
what it does, and add its line to `TRANSFORMS`. The training option, its error message and the page
of `vision-jax augmentations` read the table.
"""

from collections.abc import Callable, Sequence

from vision_jax.augment import color, geometry, mixing, policies
from vision_jax.augment.draws import Images, Keys, fold_in
from vision_jax.checked import check_choice
from vision_jax.errors import InputError

Transform = Callable[[Keys, Images], Images]
"""(keys (B,), images (B, H, W, C) in [0, 1]) -> images of the same shape and range."""

TRANSFORMS: dict[str, Transform] = {
    "flip": geometry.random_flip,
    "vertical_flip": geometry.random_vertical_flip,
    "shift": geometry.random_shift,
    "crop": geometry.random_resized_crop,
    "rotate": geometry.random_rotation,
    "affine": geometry.random_affine,
    "jitter": color.color_jitter,
    "grey": color.random_grey,
    "blur": color.random_blur,
    "erase": mixing.random_erasing,
    "rand_augment": policies.rand_augment,
    "trivial_augment": policies.trivial_augment,
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
