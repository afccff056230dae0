"""The image towers of SigLIP."""

from functools import partial

from vision_jax.weights.preprocessing import TIMM_90, Preprocessing
from vision_jax.weights.rules import SAME_NAMES, Rule, SourceMapping
from vision_jax.weights.sources.clip import hugging_face_tower_rules
from vision_jax.weights.sources.vit_names import (
    HEAD,
    STEM,
    big_vision_attention,
    big_vision_rules,
    flax,
    found_sizes,
)

_HALF = (0.5,) * 3
_TANH = {"activation": "gelu_tanh"}

_mapping = partial(SourceMapping, head=HEAD, stem=STEM, found=found_sizes)


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one per library; see `sources`.

    The networks were trained with the approximate GELU, and timm computes them with the exact one.
    Images were scaled to a square without a crop; here they are cropped to one.
    """
    del name  # all are alike
    return (
        _mapping(
            "timm",
            rules=(
                Rule(r"attn_pool\.q\.(\w+)", r"attn_pool.qkv.\1", part=0),
                Rule(r"attn_pool\.kv\.(\w+)", r"attn_pool.qkv.\1", part=1),
                *SAME_NAMES,
            ),
            preprocessing=Preprocessing(224, TIMM_90, "bicubic", _HALF, _HALF),
            options={"activation": "gelu"},
        ),
        _mapping(
            "huggingface",
            rules=_hugging_face_rules(),
            preprocessing=Preprocessing(224, 1.0, "bicubic", _HALF, _HALF),
            options={**_TANH, "resampling": "bicubic"},
            ignored=(
                r"text_model\..+",
                "logit_scale",
                "logit_bias",
                r"(vision_model\.)?embeddings\.position_ids",
            ),
        ),
        _mapping(
            "big_vision",
            rules=_big_vision_rules(),
            layout=flax,
            preprocessing=Preprocessing(224, 1.0, "bilinear", _HALF, _HALF),
            options=_TANH,
            ignored=(r"(params/)?(txt/.+|t|b)",),
        ),
    )


def _hugging_face_rules() -> tuple[Rule, ...]:
    prefix = r"(?:vision_model\.)?"
    head = rf"{prefix}head\."
    return (
        Rule(rf"{head}probe", "attn_pool.latent"),
        Rule(rf"{head}attention\.in_proj_(\w+)", r"attn_pool.qkv.\1"),
        Rule(rf"{head}attention\.out_proj\.(\w+)", r"attn_pool.proj.\1"),
        Rule(rf"{head}layernorm\.(\w+)", r"attn_pool.norm.\1"),
        Rule(rf"{head}mlp\.fc([12])\.(\w+)", r"attn_pool.mlp.fc\1.\2"),
        *hugging_face_tower_rules(prefix),
    )


def _big_vision_rules() -> tuple[Rule, ...]:
    prefix = "(?:params/)?(?:img/)?"
    head = f"{prefix}MAPHead_0/"
    return (
        Rule(f"{head}probe", "attn_pool.latent"),
        *big_vision_attention(f"{head}MultiHeadDotProductAttention_0/", "attn_pool"),
        Rule(rf"{head}LayerNorm_0/(\w+)", r"attn_pool.norm.\1"),
        Rule(rf"{head}MlpBlock_0/Dense_0/(\w+)", r"attn_pool.mlp.fc1.\1"),
        Rule(rf"{head}MlpBlock_0/Dense_1/(\w+)", r"attn_pool.mlp.fc2.\1"),
        *big_vision_rules(prefix),
    )
