"""Policies that draw operations from one table: RandAugment and TrivialAugment.

The table and its ranges are those of Cubuk et al., "RandAugment", 2020, which also omits inversion
and cutout. Unlike there, shears keep the centre.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision_jax.augment import color
from vision_jax.augment.draws import Image, Images, Keys
from vision_jax.augment.geometry import affine, affine_matrix

_SHEAR, _SHIFT, _ANGLE = 0.3, 150 / 331, jnp.pi / 6
_ENHANCE, _BITS = 0.9, 4

Strength = Float[Array, ""]

_TONES: dict[str, Callable[[Image, Strength], Image]] = {
    "identity": lambda image, _: image,
    "brightness": lambda image, m: color.adjust_brightness(image, 1 + _ENHANCE * m),
    "saturation": lambda image, m: color.adjust_saturation(image, 1 + _ENHANCE * m),
    "contrast": lambda image, m: color.adjust_contrast(image, 1 + _ENHANCE * m),
    "sharpness": lambda image, m: color.adjust_sharpness(image, 1 + _ENHANCE * m),
    "posterize": lambda image, m: color.posterize(
        image, 8 - jnp.round(_BITS * jnp.abs(m)).astype(jnp.int32)
    ),
    "solarize": lambda image, m: color.solarize(image, 1 - jnp.abs(m)),
    "autocontrast": lambda image, _: color.autocontrast(image),
    "equalize": lambda image, _: color.equalize(image),
}
_MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
OPERATIONS: tuple[str, ...] = (*_MOVES, *_TONES)
"""The operations, by number."""


def operate(image: Image, operation: Int[Array, ""], strength: Strength) -> Image:
    """Apply one operation of the table.

    Args:
        image: (H, W, C) in [0, 1].
        operation: () its index in `OPERATIONS`.
        strength: () in [-1, 1], a share of the operation's range: shear 0.3, shift 150/331 of the
            side, rotation 30 degrees, factor 1 ± 0.9, 4 bits, all levels. The sign is the
            direction, where there are two.

    Returns:
        (H, W, C) in [0, 1]; black where the source lies outside the image.
    """
    # All moves share one affine map: a vmapped switch computes every branch, so only one gather.
    matrix = _move_matrix((image.shape[0], image.shape[1]), operation, strength)
    branches = [lambda image, _: affine(image, matrix), *_TONES.values()]
    return jax.lax.switch(jnp.maximum(operation - (len(_MOVES) - 1), 0), branches, image, strength)


def rand_augment(keys: Keys, images: Images, *, count: int = 2, magnitude: float = 0.3) -> Images:
    """Apply several random operations, all at one strength (Cubuk et al., "RandAugment", 2020).

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        count: operations drawn per image, with replacement; the paper's N, at least 1.
        magnitude: their strength in [0, 1], the paper's M over 30; the direction is random.

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        ValueError: a value is out of range.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    if not 0 <= magnitude <= 1:
        raise ValueError(f"magnitude is {magnitude}; it must be in [0, 1]")

    def one(key: Key[Array, ""], image: Image) -> Image:
        chosen_key, sign_key = jax.random.split(key)
        chosen = jax.random.randint(chosen_key, (count,), 0, len(OPERATIONS))
        signs = jax.random.rademacher(sign_key, (count,), jnp.float32)
        for operation, sign in zip(chosen, signs, strict=True):
            image = operate(image, operation, magnitude * sign)
        return image

    return _each(one, keys, images)


def trivial_augment(keys: Keys, images: Images) -> Images:
    """Apply one random operation at a uniformly random strength.

    Müller and Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", 2021.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].

    Returns:
        (B, H, W, C) in [0, 1].
    """

    def one(key: Key[Array, ""], image: Image) -> Image:
        chosen_key, strength_key = jax.random.split(key)
        chosen = jax.random.randint(chosen_key, (), 0, len(OPERATIONS))
        strength = jax.random.uniform(strength_key, (), jnp.float32, -1, 1)
        return operate(image, chosen, strength)

    return _each(one, keys, images)


def _each(one: Callable[[Key[Array, ""], Image], Image], keys: Keys, images: Images) -> Images:
    # A loop over the images runs only the drawn branch; vmap runs every branch and selects.
    def in_turn(keys: Keys, images: Images) -> Images:
        return jax.lax.map(lambda pair: one(*pair), (keys, images))

    return jax.lax.platform_dependent(keys, images, cpu=in_turn, default=jax.vmap(one))


def _move_matrix(
    size: tuple[int, int], operation: Int[Array, ""], strength: Strength
) -> Float[Array, "2 3"]:
    height, width = size

    def amount(name: str, most: float) -> Array:
        return jnp.where(operation == OPERATIONS.index(name), most * strength, 0)

    # Only the drawn move is nonzero, so a vertical shear may simply be added.
    matrix = affine_matrix(
        size,
        angle=amount("rotate", _ANGLE),
        shift=jnp.stack(
            [amount("translate_x", _SHIFT * width), amount("translate_y", _SHIFT * height)]
        ),
        shear=amount("shear_x", _SHEAR),
    )
    down = amount("shear_y", _SHEAR)
    return matrix.at[1].add(jnp.stack([-down, jnp.zeros_like(down), down * (width / 2)]))
