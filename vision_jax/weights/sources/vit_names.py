"""What the mappings of vision transformers have in common."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from vision_jax.weights.rules import Rule, Tensor

HEAD = "head.kernel"
STEM = "patch_embed.proj.kernel"


def found_sizes(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find the options that the parameters tell.

    Args:
        values: The parameters by their paths.

    Returns:
        `image_size`, of the position embeddings; `pool` and `fc_norm` if there is timm's
        normalisation of the mean.
    """
    found: dict[str, Any] = {}
    positions, kernel = values.get("pos_embed"), values.get(STEM)
    if positions is not None and positions.ndim == 3 and kernel is not None:
        count = positions.shape[1] - ("cls_token" in values)
        side = math.isqrt(max(0, count))
        if side * side == count:
            found["image_size"] = side * kernel.shape[0]
    if "fc_norm.scale" in values:
        found |= {"pool": "mean", "fc_norm": True}
    return found


def blocks(prefix: str, layers: Mapping[str, str]) -> tuple[Rule, ...]:
    r"""Return the rules for the layers of blocks.

    Args:
        prefix: Regular expression of what stands before a block's number.
        layers: From the regular expression of a layer within a block, whose groups count from 2,
            to the layer here.
    """
    return tuple(
        Rule(rf"{prefix}(\d+)\.{theirs}", rf"blocks.\1.{ours}") for theirs, ours in layers.items()
    )


def query_key_value(prefix: str, names: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that join the projections of attentions.

    Args:
        prefix: Regular expression of what stands before a block's number.
        names: Regular expressions of the query, the key and the value layer within a block.
    """
    return tuple(
        Rule(rf"{prefix}(\d+)\.{name}\.(\w+)", r"blocks.\1.attn.qkv.\2", part=part)
        for part, name in enumerate(names)
    )


def hugging_face_rules(prefix: str, layers: Mapping[str, str]) -> tuple[Rule, ...]:
    r"""Return the rules that Transformers' vision transformers have in common.

    Args:
        prefix: Regular expression of what may stand before all names.
        layers: Those of each network's own blocks, as for `blocks`.
    """
    layer = rf"{prefix}encoder\.layer\."
    names = tuple(rf"attention\.attention\.{name}" for name in ("query", "key", "value"))
    return (
        Rule(rf"{prefix}embeddings\.cls_token", "cls_token"),
        Rule(rf"{prefix}embeddings\.position_embeddings", "pos_embed"),
        Rule(rf"{prefix}embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
        *query_key_value(layer, names),
        *blocks(layer, {r"attention\.output\.dense\.(\w+)": r"attn.proj.\2", **layers}),
        Rule(rf"{prefix}layernorm\.(\w+)", r"norm.\1"),
    )


def as_token(tensor: Tensor) -> Tensor:
    """Lay out a vector (D,) as a token (1, 1, D)."""
    return tensor.reshape(1, 1, -1)


def as_positions(tensor: Tensor) -> Tensor:
    """Lay out positions (N, D) as (1, N, D)."""
    return tensor[None]


def with_class_place(tensor: Tensor) -> Tensor:
    """Add the position 0 of a class token to those of a square grid (1, N, D), where it lacks."""
    if tensor.ndim != 3 or math.isqrt(tensor.shape[1]) ** 2 != tensor.shape[1]:
        return tensor
    return np.concatenate([np.zeros_like(tensor[:, :1]), tensor], 1)


def big_vision_rules(
    prefix: str = "", *, positions: Callable[[Tensor], Tensor] | None = None
) -> tuple[Rule, ...]:
    """Return the rules for big_vision and its forerunner vision_transformer.

    Args:
        prefix: Regular expression of what may stand before all names.
        positions: Lays out the position embeddings; None to leave them as they are.
    """
    block = rf"{prefix}Transformer/encoderblock_(\d+)/"
    return (
        Rule(rf"{prefix}embedding/(\w+)", r"patch_embed.proj.\1"),
        Rule(
            rf"{prefix}(?:Transformer/)?(?:posembed_input/)?pos_embedding", "pos_embed", positions
        ),
        Rule(rf"{block}LayerNorm_0/(\w+)", r"blocks.\1.norm1.\2"),
        Rule(rf"{block}LayerNorm_[12]/(\w+)", r"blocks.\1.norm2.\2"),
        *big_vision_attention(rf"{block}MultiHeadDotProductAttention_[01]/", r"blocks.\1.attn"),
        Rule(rf"{block}MlpBlock_[03]/Dense_0/(\w+)", r"blocks.\1.mlp.fc1.\2"),
        Rule(rf"{block}MlpBlock_[03]/Dense_1/(\w+)", r"blocks.\1.mlp.fc2.\2"),
        Rule(rf"{prefix}Transformer/encoder_norm/(\w+)", r"norm.\1"),
        Rule(rf"{prefix}head/(\w+)", r"head.\1"),
    )


def big_vision_attention(prefix: str, path: str) -> tuple[Rule, ...]:
    """Return the rules for an attention of Flax's, which keeps the heads apart.

    Args:
        prefix: Regular expression of what stands before its layers.
        path: Path of the attention here.
    """
    rules = [
        rule
        for part, name in enumerate(("query", "key", "value"))
        for rule in (
            Rule(f"{prefix}{name}/kernel", f"{path}.qkv.kernel", _joined_out, part),
            Rule(f"{prefix}{name}/bias", f"{path}.qkv.bias", np.ravel, part),
        )
    ]
    out = Rule(f"{prefix}out/kernel", f"{path}.proj.kernel", _joined_in)
    return (*rules, out, Rule(f"{prefix}out/bias", f"{path}.proj.bias"))


def _joined_out(kernel: Tensor) -> Tensor:
    return kernel.reshape(len(kernel), -1)


def _joined_in(kernel: Tensor) -> Tensor:
    return kernel.reshape(-1, kernel.shape[-1])


def flax(leaf: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Leave a tensor of Flax's as it is."""
    return leaf, tensor
