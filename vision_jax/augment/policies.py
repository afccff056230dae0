"""Random operations out of one table: RandAugment and TrivialAugment.

The table and its ranges are those of Cubuk et al., "RandAugment", 2020, but that shears keep the
centre. Inverting and cutting out are left away, as there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision_jax.augment import color
from vision_jax.augment.geometry import Image, Images, Keys, affine, affine_matrix

_SHEAR, _SHIFT, _TURN = 0.3, 150 / 331, jnp.pi / 6
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
"""What an operation's number means."""


def operate(image: Image, operation: Int[Array, ""], strength: Strength) -> Image:
    """Applies one operation of the table.

    Args:
        image: (H, W, C) in [0, 1].
        operation: () its place in `OPERATIONS`.
        strength: () in [-1, 1], as a share of the operation's range: shears of 0.3, shifts of
            150/331 of the side, turns of 30 degrees, factors of 1 ± 0.9, 4 bits, all levels. Its
            sign says which way, where there are two.

    Returns:
        (H, W, C) in [0, 1]; what is seen from outside the image is black.
    """
    # All moves are one affine map, so that where every branch is computed there is one gather.
    matrix = _move_matrix((image.shape[0], image.shape[1]), operation, strength)
    branches = [lambda image, _: affine(image, matrix), *_TONES.values()]
    return jax.lax.switch(jnp.maximum(operation - (len(_MOVES) - 1), 0), branches, image, strength)


def rand_augment(keys: Keys, images: Images, *, count: int = 2, magnitude: float = 0.3) -> Images:
    """Applies operations drawn with replacement, all at one strength (Cubuk et al., 2020).

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        count: how many operations, the paper's N.
        magnitude: their strength in [0, 1], the paper's M over 30; ways are drawn.

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
        chosen_key, way_key = jax.random.split(key)
        chosen = jax.random.randint(chosen_key, (count,), 0, len(OPERATIONS))
        ways = jax.random.rademacher(way_key, (count,), jnp.float32)
        for operation, way in zip(chosen, ways, strict=True):
            image = operate(image, operation, magnitude * way)
        return image

    return _each(one, keys, images)


def trivial_augment(keys: Keys, images: Images) -> Images:
    """Applies one operation to each image, at a uniform strength (Müller and Hutter, 2021).

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
    # One image after the other takes only the branch that was drawn; all at once compute every
    # branch and choose.
    def in_turn(keys: Keys, images: Images) -> Images:
        return jax.lax.map(lambda pair: one(*pair), (keys, images))

    return jax.lax.platform_dependent(keys, images, cpu=in_turn, default=jax.vmap(one))


def _move_matrix(
    size: tuple[int, int], operation: Int[Array, ""], strength: Strength
) -> Float[Array, "2 3"]:
    height, width = size

    def amount(name: str, most: float) -> Array:
        return jnp.where(operation == OPERATIONS.index(name), most * strength, 0)

    # Of all moves only the one that was drawn is not zero; a shear down may thus be added.
    matrix = affine_matrix(
        size,
        angle=amount("rotate", _TURN),
        shift=jnp.stack(
            [amount("translate_x", _SHIFT * width), amount("translate_y", _SHIFT * height)]
        ),
        shear=amount("shear_x", _SHEAR),
    )
    down = amount("shear_y", _SHEAR)
    return matrix.at[1].add(jnp.stack([-down, jnp.zeros_like(down), down * (width / 2)]))
