"""What all random transforms share: array types, one key per image, and checks of ranges.

A random transform takes one key per image, so that the result for an image depends neither on the
rest of the batch nor on the number of devices.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

Images = Float[Array, "batch height width channels"]
Image = Float[Array, "height width channels"]
Keys = Key[Array, " batch"]
Range = tuple[float, float]


def per_example_keys(key: Key[Array, ""], first: Array | int, count: int) -> Key[Array, " count"]:
    """Derive one key per image from its position in the whole batch.

    Args:
        key: the step's key.
        first: position of the first image in the whole batch, () integer.
        count: number of images on this device.

    Returns:
        (count,) keys, the same whether the batch is on one device or on several.
    """
    places = jnp.asarray(first, jnp.int32) + jnp.arange(count, dtype=jnp.int32)
    return jax.vmap(partial(jax.random.fold_in, key))(places)


def fold_in(keys: Keys, number: int) -> Keys:
    """Derive independent keys for one of several uses.

    Args:
        keys: (B,) one key per image.
        number: which use.

    Returns:
        (B,) one key per image.
    """
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def apply_at_random(keys: Keys, probability: float, changed: Images, images: Images) -> Images:
    """Replace each image by its changed version with a given probability.

    Args:
        keys: (B,) one key per image.
        probability: in [0, 1].
        changed: (B, H, W, C) the images, transformed.
        images: (B, H, W, C) the images as they are.

    Returns:
        (B, H, W, C).

    Raises:
        ValueError: `probability` is out of range.
    """
    check_probability(probability)
    draw = partial(jax.random.bernoulli, p=probability)
    chosen: Bool[Array, " batch"] = jax.vmap(draw)(keys)
    return jnp.where(chosen[:, None, None, None], changed, images)


def check_probability(probability: float) -> None:
    """Raise ValueError unless a probability is in [0, 1]."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}; it must be in [0, 1]")


def check_range(name: str, bounds: Range, *, above: float, most: float = float("inf")) -> None:
    """Raise ValueError unless bounds are ordered and in (above, most].

    Args:
        name: the argument's name, for the message.
        bounds: lower and upper bound.
        above: the value that both must exceed.
        most: the largest value allowed.
    """
    if not above < bounds[0] <= bounds[1] <= most:
        raise ValueError(f"{name} is {bounds}; it must be two ordered numbers in ({above}, {most}]")
