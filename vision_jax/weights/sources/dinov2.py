"""DINOv2, with and without registers."""

from functools import partial

from vision_jax.weights.preprocessing import Preprocessing
from vision_jax.weights.rules import SAME_NAMES, Rule, SourceMapping
from vision_jax.weights.sources.vit_names import (
    HEAD,
    STEM,
    found_sizes,
    hugging_face_rules,
    with_class_place,
)

_TIMM = Preprocessing(518, 1.0, "bicubic")
_ORIGINAL = Preprocessing(224, 224 / 256, "bicubic")

_mapping = partial(SourceMapping, head=HEAD, stem=STEM, found=found_sizes)


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one per library; see `sources`.

    The position embeddings are for images of 518x518. timm prepares them at that size, the others
    at 224x224, and each resamples positions in its own way.
    """
    registers = "_reg4_" in name
    return (
        _mapping(
            "timm",
            rules=((Rule("pos_embed", "pos_embed", with_class_place),) if registers else ())
            + SAME_NAMES,
            preprocessing=_TIMM,
            options={"resampling": "antialias"},
        ),
        _mapping(
            "dinov2",
            rules=(Rule("register_tokens", "reg_token"), *SAME_NAMES),
            preprocessing=_ORIGINAL,
            options={"resampling": "antialias" if registers else "dinov2"},
            ignored=("mask_token",),
            own_size=True,
            # Without it, timm's file of the same names is meant.
            recognizes=lambda tensors: "mask_token" in tensors,
        ),
        _mapping(
            "huggingface",
            rules=_hugging_face_rules(),
            preprocessing=_ORIGINAL,
            options={"resampling": "antialias" if registers else "bicubic"},
            ignored=(rf"{_PREFIX}embeddings\.mask_token",),
            own_size=True,
        ),
    )


_PREFIX = r"(?:dinov2(?:_with_registers)?\.)?"


def _hugging_face_rules() -> tuple[Rule, ...]:
    layers = {
        r"layer_scale([12])\.lambda1": r"ls\2.gamma",
        r"norm([12])\.(\w+)": r"norm\2.\3",
        r"mlp\.fc([12])\.(\w+)": r"mlp.fc\2.\3",
    }
    registers = Rule(rf"{_PREFIX}embeddings\.register_tokens", "reg_token")
    return (registers, *hugging_face_rules(_PREFIX, layers))
