"""Differentiable augmentation for a GAN's discriminator.

Real and generated images pass through the same kinds of random transforms, and the generator's
gradient passes through them too. The discriminator then cannot memorise a small data set, and the
generator does not learn to imitate the transforms (Zhao et al., "Differentiable augmentation for
data-efficient GAN training", 2020).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from vision_jax.augment.draws import Image, Images, Keys, fold_in
from vision_jax.augment.geometry import random_crop
from vision_jax.checked import check_choice
from vision_jax.config import DifferentiableAugmentation


def diff_augment(
    keys: Keys, images: Images, augmentations: Sequence[DifferentiableAugmentation]
) -> Images:
    """Apply the named transforms in the given order.

    `color` shifts the brightness and scales saturation and contrast, `translation` shifts by up
    to an eighth of each side, `cutout` blanks a rectangle of half the height and width.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [-1, 1]; pixels from outside the image, or cut out, become 0.
        augmentations: names of transforms.

    Returns:
        (B, H, W, C); `color` may leave [-1, 1].

    Raises:
        InputError: a name is none of these.
    """
    for number, name in enumerate(augmentations):
        check_choice(name, tuple(_TRANSFORMS), "augmentations")
        images = _TRANSFORMS[name](fold_in(keys, number), images)
    return images


def _color(keys: Keys, images: Images) -> Images:
    def one(key: Key[Array, ""], image: Image) -> Image:
        brightness, saturation, contrast = jax.random.uniform(key, (3,), image.dtype)
        image = image + (brightness - 0.5)
        grey = jnp.mean(image, -1, keepdims=True)
        image = (image - grey) * (saturation * 2) + grey
        mean = jnp.mean(image)
        return (image - mean) * (contrast + 0.5) + mean

    return jax.vmap(one)(keys, images)


def _translation(keys: Keys, images: Images) -> Images:
    height, width = images.shape[1:3]
    down, right = round(height / 8), round(width / 8)
    padded = jnp.pad(images, ((0, 0), (down, down), (right, right), (0, 0)))
    return random_crop(keys, padded, (height, width))


def _cutout(keys: Keys, images: Images) -> Images:
    height, width = images.shape[1:3]

    def one(key: Key[Array, ""]) -> Array:
        # Any pixel may be the centre, so part of the rectangle may lie outside.
        centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
        row = _covered(jnp.arange(height), centre[0], height)
        column = _covered(jnp.arange(width), centre[1], width)
        return ~(row[:, None] & column)

    kept = jax.vmap(one)(keys)
    return images * kept[..., None].astype(images.dtype)


def _covered(places: Array, centre: Array, side: int) -> Array:
    return (places >= centre - side // 4) & (places < centre - side // 4 + side // 2)


_TRANSFORMS: dict[DifferentiableAugmentation, Callable[[Keys, Images], Images]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}
