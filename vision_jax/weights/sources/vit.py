"""Vision transformers: those of ImageNet here, DINOv2, CLIP and SigLIP in files of their own."""

from dataclasses import replace
from functools import partial

from vision_jax.weights.preprocessing import TIMM_90, Preprocessing
from vision_jax.weights.rules import Rule, SourceMapping
from vision_jax.weights.sources import clip, dinov2, siglip
from vision_jax.weights.sources.vit_names import (
    HEAD,
    STEM,
    as_token,
    big_vision_rules,
    blocks,
    flax,
    found_sizes,
    hugging_face_rules,
    with_class_place,
)

_HALF = (0.5,) * 3
_TIMM = Preprocessing(224, TIMM_90, "bicubic", _HALF, _HALF)
_HUGGING_FACE = Preprocessing(224, 1.0, "bilinear", _HALF, _HALF)
_BIG_VISION = Preprocessing(224, 0.875, "bilinear", _HALF, _HALF)

_mapping = partial(SourceMapping, head=HEAD, stem=STEM, found=found_sizes)


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one or two per library; see `sources`.

    Transformers scales images to a square without a crop; here they are cropped to one. The
    weights of big_vision are trained with the approximate GELU of Flax, and timm and Transformers
    compute their copies of them with the exact one.
    """
    for kind, place in (("dinov2", dinov2), ("clip", clip), ("siglip", siglip)):
        if kind in name:
            return place.mappings(name)
    timm = replace(_TIMM, crop=1.0) if name.endswith("384") else _TIMM
    flaxen = partial(_mapping, "big_vision", layout=flax, preprocessing=_BIG_VISION)
    return (
        _mapping("timm", preprocessing=timm),
        _mapping("torchvision", rules=_torchvision_rules(), preprocessing=_torchvision(name)),
        _mapping(
            "huggingface",
            rules=_hugging_face_rules(),
            preprocessing=_HUGGING_FACE,
            options={"epsilon": 1e-12, "resampling": "bicubic"},
            ignored=(r"(vit\.)?pooler\.dense\.\w+",),
        ),
        flaxen(
            rules=(
                Rule(f"{_PARAMS}cls", "cls_token", as_token),
                *big_vision_rules(_PARAMS, positions=with_class_place),
            ),
            options={"activation": "gelu_tanh"},
        ),
        flaxen(
            rules=big_vision_rules(_PARAMS),
            options={"activation": "gelu_tanh", "class_token": False, "pool": "mean"},
        ),
    )


_PARAMS = "(?:params/)?"


def _torchvision(name: str) -> Preprocessing:
    if name in ("vit_h_14", "vit_huge_patch14_224"):
        return Preprocessing(crop=1.0, interpolation="bicubic")
    return Preprocessing(crop=224 / (242 if name in ("vit_l_16", "vit_large_patch16_224") else 256))


def _torchvision_rules() -> tuple[Rule, ...]:
    return (
        Rule("class_token", "cls_token"),
        Rule(r"encoder\.pos_embedding", "pos_embed"),
        Rule(r"conv_proj\.(\w+)", r"patch_embed.proj.\1"),
        *blocks(
            r"encoder\.layers\.encoder_layer_",
            {
                r"ln_([12])\.(\w+)": r"norm\2.\3",
                r"self_attention\.in_proj_(\w+)": r"attn.qkv.\2",
                r"self_attention\.out_proj\.(\w+)": r"attn.proj.\2",
                r"mlp\.0\.(\w+)": r"mlp.fc1.\2",
                r"mlp\.3\.(\w+)": r"mlp.fc2.\2",
                # Files of before version 0.12.
                r"mlp\.linear_([12])\.(\w+)": r"mlp.fc\2.\3",
            },
        ),
        Rule(r"encoder\.ln\.(\w+)", r"norm.\1"),
        Rule(r"heads\.head\.(\w+)", r"head.\1"),
    )


def _hugging_face_rules() -> tuple[Rule, ...]:
    layers = {
        r"layernorm_before\.(\w+)": r"norm1.\2",
        r"layernorm_after\.(\w+)": r"norm2.\2",
        r"intermediate\.dense\.(\w+)": r"mlp.fc1.\2",
        r"output\.dense\.(\w+)": r"mlp.fc2.\2",
    }
    return (*hugging_face_rules(r"(?:vit\.)?", layers), Rule(r"classifier\.(\w+)", r"head.\1"))
