"""The image towers of CLIP."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from vision_jax.weights.preprocessing import TIMM_90, Preprocessing
from vision_jax.weights.rules import SAME_NAMES, Rule, SourceMapping, Tensor
from vision_jax.weights.sources.vit_names import (
    HEAD,
    STEM,
    as_positions,
    as_token,
    blocks,
    found_sizes,
    query_key_value,
)

_CLIP = Preprocessing(
    224,
    1.0,
    "bicubic",
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one or two per library; see `sources`.

    OpenAI's networks compute with the quick GELU, those trained with OpenCLIP (LAION's and others)
    with the exact one, and their files are alike. A model whose name has `quickgelu` is one of
    OpenAI's, as in timm, and OpenAI's own files hold three numbers beside the weights, such as
    `input_resolution`, which OpenCLIP's do not. The source, or an option `activation`, has to tell
    for the rest; that they are stored as float16 tells nothing, since anyone's may be.
    """
    activation = {"activation": "quick_gelu" if "quickgelu" in name else "gelu"}
    quick = {"activation": "quick_gelu"}
    timm = _CLIP if "large" in name else replace(_CLIP, crop=TIMM_90)
    openai = partial(_mapping, rules=_openai_rules())
    hugging_face = partial(_mapping, rules=_hugging_face_rules(), bicubic=True)
    text = (*_OPENAI_TEXT, "input_resolution", "context_length", "vocab_size")
    return (
        _mapping(
            "timm",
            rules=(Rule(r"head\.weight", r"projection.weight"), *SAME_NAMES),
            preprocessing=timm,
            options=activation,
            ignored=(r"head\.bias",),
            recognizes=_has_projection,
        ),
        _mapping(
            "timm",
            preprocessing=timm,
            options=activation,
            recognizes=lambda tensors: not _has_projection(tensors),
        ),
        openai("openai", options=quick, ignored=text),
        openai("open_clip", options=activation, ignored=_OPENAI_TEXT),
        hugging_face("huggingface", options=quick),
        hugging_face("huggingface_open_clip", options=activation),
    )


def _mapping(
    source: str,
    *,
    rules: tuple[Rule, ...] = SAME_NAMES,
    options: Mapping[str, Any],
    bicubic: bool = False,
    preprocessing: Preprocessing = _CLIP,
    **others: Any,
) -> SourceMapping:
    if bicubic:
        options = {**options, "resampling": "bicubic"}
        others = {"ignored": _HUGGING_FACE_TEXT, **others}
    return SourceMapping(
        source,
        HEAD,
        STEM,
        rules,
        preprocessing=preprocessing,
        options=options,
        found=_found,
        **others,
    )


def _found(values: Mapping[str, Tensor]) -> dict[str, Any]:
    projection = values.get("projection.kernel")
    width = 0 if projection is None else projection.shape[-1]
    return {**found_sizes(values), "projection": width}


def _has_projection(tensors: Mapping[str, Tensor]) -> bool:
    """Whether timm's head is CLIP's projection, which has no bias, and no classifier."""
    bias = tensors.get("head.bias")
    return "head.weight" in tensors and (bias is None or not np.any(bias))


_HUGGING_FACE_TEXT = (
    r"text_model\..+",
    r"text_projection\.weight",
    "logit_scale",
    r"(vision_model\.)?embeddings\.position_ids",
)
_OPENAI_TEXT = (
    r"transformer\.resblocks\..+",
    r"token_embedding\.weight",
    "positional_embedding",
    r"ln_final\.\w+",
    "text_projection",
    "logit_scale",
)


def _openai_rules() -> tuple[Rule, ...]:
    return (
        Rule(r"visual\.class_embedding", "cls_token", as_token),
        Rule(r"visual\.positional_embedding", "pos_embed", as_positions),
        Rule(r"visual\.conv1\.(\w+)", r"patch_embed.proj.\1"),
        Rule(r"visual\.ln_pre\.(\w+)", r"norm_pre.\1"),
        Rule(r"visual\.ln_post\.(\w+)", r"norm.\1"),
        Rule(r"visual\.proj", "projection.kernel", np.asarray),
        *blocks(
            r"visual\.transformer\.resblocks\.",
            {
                r"ln_([12])\.(\w+)": r"norm\2.\3",
                r"attn\.in_proj_(\w+)": r"attn.qkv.\2",
                r"attn\.out_proj\.(\w+)": r"attn.proj.\2",
                r"mlp\.c_fc\.(\w+)": r"mlp.fc1.\2",
                r"mlp\.c_proj\.(\w+)": r"mlp.fc2.\2",
            },
        ),
    )


def _hugging_face_rules() -> tuple[Rule, ...]:
    prefix = r"(?:vision_model\.)?"
    return (
        Rule(rf"{prefix}embeddings\.class_embedding", "cls_token", as_token),
        Rule(rf"{prefix}pre_layrnorm\.(\w+)", r"norm_pre.\1"),
        Rule(r"visual_projection\.(\w+)", r"projection.\1"),
        *hugging_face_tower_rules(prefix),
    )


def hugging_face_tower_rules(prefix: str) -> tuple[Rule, ...]:
    """Return the rules for what Transformers' towers of CLIP and SigLIP have in common.

    Args:
        prefix: Regular expression of what may stand before the names.
    """
    layers = rf"{prefix}encoder\.layers\."
    attention = tuple(rf"self_attn\.{letter}_proj" for letter in "qkv")
    return (
        Rule(rf"{prefix}embeddings\.position_embedding\.weight", "pos_embed", as_positions),
        Rule(rf"{prefix}embeddings\.patch_embedding\.(\w+)", r"patch_embed.proj.\1"),
        *query_key_value(layers, attention),
        *blocks(
            layers,
            {
                r"self_attn\.out_proj\.(\w+)": r"attn.proj.\2",
                r"layer_norm([12])\.(\w+)": r"norm\2.\3",
                r"mlp\.fc([12])\.(\w+)": r"mlp.fc\2.\3",
            },
        ),
        Rule(rf"{prefix}post_layernorm\.(\w+)", r"norm.\1"),
    )
