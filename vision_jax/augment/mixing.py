"""Transforms that hide or mix parts of images: random erasing, mixup and cutmix.

Mixing pairs images 2i and 2i + 1 of a batch, which is shuffled anyway. So the result for a pair
depends on its key alone, not on the number of devices.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from vision_jax.augment.draws import (
    Image,
    Images,
    Keys,
    Range,
    check_probability,
    check_range,
    fold_in,
)
from vision_jax.augment.geometry import draw_box
from vision_jax.data.loader import Batch
from vision_jax.errors import InputError

Mask = Bool[Array, "height width"]
Shares = Float[Array, " batch"]


def random_erasing(
    keys: Keys,
    images: Images,
    *,
    probability: float = 0.5,
    scale: Range = (0.02, 1 / 3),
    ratio: Range = (0.3, 3.3),
) -> Images:
    """Cover a random box of some images with one random colour.

    Zhong et al., "Random erasing data augmentation", 2020, which draws every pixel of the box; one
    colour takes far fewer random numbers.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        probability: chance that an image is changed, in [0, 1].
        scale: bounds of the box's share of the area, in (0, 1].
        ratio: bounds of its width over its height, above 0.

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        ValueError: a value is out of range.
    """
    check_probability(probability)
    check_range("scale", scale, above=0.0, most=1.0)
    check_range("ratio", ratio, above=0.0)
    height, width, channels = images.shape[1:]

    def one(key: Key[Array, ""], image: Image) -> Image:
        box_key, color_key, chosen_key = jax.random.split(key, 3)
        box = box_mask((height, width), *draw_box(box_key, (height, width), scale, ratio))
        covered = box & jax.random.bernoulli(chosen_key, probability)
        color = jax.random.uniform(color_key, (channels,), image.dtype)
        return jnp.where(covered[..., None], color, image)

    return jax.vmap(one)(keys, images)


def box_mask(size: tuple[int, int], corner: Float[Array, "2"], sides: Float[Array, "2"]) -> Mask:
    """Mark the pixels whose centre lies in a box.

    Args:
        size: (height, width) of the mask in pixels.
        corner: (top, left) of the box in pixels.
        sides: (height, width) of the box in pixels.

    Returns:
        (height, width), True inside.
    """
    row, column = (
        (place >= start) & (place < start + side)
        for place, start, side in zip(
            (jnp.arange(length, dtype=jnp.float32) + 0.5 for length in size),
            corner,
            sides,
            strict=True,
        )
    )
    return row[:, None] & column


def mixup(keys: Keys, images: Images, *, alpha: float = 0.2) -> tuple[Images, Shares]:
    """Average the two images of each pair with a random weight (Zhang et al., "mixup", 2018).

    Args:
        keys: (B,) one key per image; a pair uses its first key.
        images: (B, H, W, C) in [0, 1], B even.
        alpha: the weight is drawn from Beta(alpha, alpha); above 0.

    Returns:
        (B, H, W, C) in [0, 1], and (B,) the weight of each image's own pixels.

    Raises:
        InputError: B is odd.
        ValueError: `alpha` is not above 0.
    """
    share = _both(_weights(keys, images, alpha))
    weight = share[:, None, None, None]
    return weight * images + (1 - weight) * partners(images), share


def cutmix(keys: Keys, images: Images, *, alpha: float = 1.0) -> tuple[Images, Shares]:
    """Swap a random box between the two images of each pair (Yun et al., "CutMix", 2019).

    Args:
        keys: (B,) one key per image; a pair uses its first key.
        images: (B, H, W, C) in [0, 1], B even.
        alpha: the share of the area kept is drawn from Beta(alpha, alpha), before the box is
            clipped to the image; above 0.

    Returns:
        (B, H, W, C) in [0, 1], and (B,) the share of its own pixels that each image keeps.

    Raises:
        InputError: B is odd.
        ValueError: `alpha` is not above 0.
    """
    weights = _weights(keys, images, alpha)
    size = jnp.array(images.shape[1:3], jnp.float32)

    def box(key: Key[Array, ""], weight: Array) -> Mask:
        sides = size * jnp.sqrt(1 - weight)
        middle = jax.random.uniform(jax.random.fold_in(key, 1), (2,), jnp.float32) * size
        return box_mask((images.shape[1], images.shape[2]), middle - sides / 2, sides)

    boxes = _both(jax.vmap(box)(keys[::2], weights))
    share = 1 - jnp.mean(boxes.astype(jnp.float32), (1, 2))
    return jnp.where(boxes[..., None], partners(images), images), share


def mix(keys: Keys, batch: Batch, *, how: Literal["mixup", "cutmix", "either"] = "either") -> Batch:
    """Mix the pairs of a labelled batch; a pair with a masked image stays as it is.

    Args:
        keys: (B,) one key per image; a pair uses its first key.
        batch: `image` (B, H, W, C) in [0, 1], `label` (B,) and `mask` (B,), B even.
        how: by `mixup`, by `cutmix`, or by either with probability 1/2 for each pair.

    Returns:
        The batch with mixed images, `label_other` (B,), the partner's label, and `label_weight`
        (B,) float32 in [0, 1], the weight of the image's own label.

    Raises:
        InputError: B is odd.
    """
    images = batch["image"]
    mixed, share = cutmix(keys, images) if how == "cutmix" else mixup(keys, images)
    if how == "either":
        cut, kept = cutmix(keys, images)
        chosen = _both(jax.vmap(jax.random.bernoulli)(fold_in(keys[::2], 2)))
        mixed = jnp.where(chosen[:, None, None, None], cut, mixed)
        share = jnp.where(chosen, kept, share)
    real = batch["mask"] & partners(batch["mask"])
    return batch | {
        "image": jnp.where(real[:, None, None, None], mixed, images),
        "label_other": partners(batch["label"]),
        "label_weight": jnp.where(real, share, 1),
    }


def partners(rows: Array) -> Array:
    """Return the partner of each row: rows 1, 0, 3, 2, … of (B, ...), B even."""
    paired = rows.reshape(len(rows) // 2, 2, *rows.shape[1:])
    return paired[:, ::-1].reshape(rows.shape)


def _weights(keys: Keys, images: Images, alpha: float) -> Float[Array, " pairs"]:
    if len(images) % 2:
        raise InputError(
            f"a device's batch is {len(images)}; it must be even to mix its images in pairs"
        )
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be above 0")

    def draw(key: Key[Array, ""]) -> Array:
        if alpha == 1:  # uniform, so no rejection sampler is needed
            return jax.random.uniform(key, (), jnp.float32)
        return jax.random.beta(key, alpha, alpha, dtype=jnp.float32)

    return jax.vmap(draw)(fold_in(keys[::2], 0))


def _both(values: Array) -> Array:
    """Repeat a value per pair for both of its images."""
    return jnp.repeat(values, 2, axis=0)
