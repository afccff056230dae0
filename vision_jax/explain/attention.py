"""Attention of a vision transformer, followed through its blocks."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.checked import check_choice
from vision_jax.errors import InputError
from vision_jax.explain.cams import enlarged
from vision_jax.explain.feature_maps import Images, Network, Score


def attention_rollout(
    network: Network, score: Score, images: Images, *, pool: Literal["token", "mean"] = "token"
) -> Float[Array, "batch height width"]:
    """Multiply the attention of all blocks: how much of each patch arrives in the embedding.

    Abnar and Zuidema, "Quantifying attention flow in transformers", 2020: heads are averaged, and
    half of each token stays as it is, for the way past the attention. It explains the embedding as
    a whole, and no class.

    Args:
        network: images to output and endpoints, with the attention weights among them.
        score: not used.
        images: (B, H, W, C) in [0, 1].
        pool: where the embedding comes from: the class token or the mean of the patches. A network
            that pools by attention, with an endpoint `attention_pool`, needs neither.

    Returns:
        (B, H, W) at least 0. A map's cells, before it is enlarged, sum to at most 1.

    Raises:
        InputError: the network has no attention.
    """
    del score
    check_choice(pool, ("token", "mean"), "pool")
    _, endpoints = network(images)
    blocks = [name for name in endpoints if name.removeprefix("attention").isdigit()]
    if not blocks:
        raise InputError(NO_ATTENTION)
    first = endpoints[blocks[0]]
    flow = jnp.broadcast_to(jnp.eye(first.shape[-1]), (len(first), *first.shape[2:]))
    for name in sorted(blocks, key=lambda name: int(name.removeprefix("attention"))):
        attention = jnp.mean(endpoints[name], 1)
        flow = 0.5 * (attention @ flow + flow)
    rows, columns = endpoints["features"].shape[1:3]
    if "attention_pool" in endpoints:
        arrived = (jnp.mean(endpoints["attention_pool"], 1) @ flow)[:, 0]
    elif pool == "token":
        arrived = flow[:, 0]
    else:
        arrived = jnp.mean(flow[:, -rows * columns :], 1)
    return enlarged(arrived[:, -rows * columns :].reshape(-1, rows, columns), images)


NO_ATTENTION = (
    "method is 'attention_rollout', and the network has no attention; a vision transformer is "
    "needed, or another method such as grad_cam or occlusion"
)
