"""VGG with and without batch norm."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vision_jax.models import build_model
from vision_jax.models.vgg import POOLED
from vision_jax.weights import keras_names, layouts
from vision_jax.weights.rules import Rule, SourceMapping, Tensor


def _found(values: Mapping[str, Tensor]) -> dict[str, Any]:
    # Keras's `notop` files, and timm's features, end before the dense layers.
    return {} if "classifier.0.kernel" in values else {"hidden": 0}


_mapping = partial(
    SourceMapping, head="classifier.6.kernel", stem="features.0.kernel", found=_found
)

_FEATURES = Rule(r"(features\.\d+\.\w+)", r"\1")
_TORCHVISION_RULES = (
    _FEATURES,
    Rule(r"classifier\.0\.weight", "classifier.0.kernel", layouts.after_flatten(POOLED)),
    Rule(r"(classifier\.[036]\.\w+)", r"\1"),
)
_TIMM_RULES = (
    _FEATURES,
    Rule(r"pre_logits\.fc1\.weight", "classifier.0.kernel", layouts.after_flatten(POOLED)),
    Rule(r"pre_logits\.fc1\.(\w+)", r"classifier.0.\1"),
    Rule(r"pre_logits\.fc2\.weight", "classifier.3.kernel", layouts.after_flatten(1)),
    Rule(r"pre_logits\.fc2\.(\w+)", r"classifier.3.\1"),
    Rule(r"head\.fc\.(\w+)", r"classifier.6.\1"),
)


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one per library; see `sources`.

    timm's networks are torchvision's up to 224x224 pixels; of larger images they average the
    outputs of the dense layers, where torchvision's average their input.
    """
    found = (
        _mapping("torchvision", rules=_TORCHVISION_RULES),
        _mapping("timm", rules=_TIMM_RULES),
    )
    return (*found, _keras(name)) if name in ("vgg16", "vgg19") else found


def _keras(name: str) -> SourceMapping:
    layers, place = [], 0
    for stage, depth in enumerate(build_model(name).depths, start=1):
        for number in range(1, depth + 1):
            layers.append((f"block{stage}_conv{number}", f"features.{place}"))
            place += 2
        place += 1
    ends = (("fc1", "classifier.0"), ("fc2", "classifier.3"), ("predictions", "classifier.6"))
    return _mapping(
        "keras",
        rules=keras_names.keras_rules((*layers, *ends), bgr=True),
        layout=layouts.flax,
        preprocessing=keras_names.CAFFE,
        ignored=keras_names.IGNORED,
    )
