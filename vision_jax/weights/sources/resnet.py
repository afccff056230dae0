"""ResNet, Wide ResNet for ImageNet and ResNeXt."""

import re
from functools import partial

from vision_jax.models import build_model
from vision_jax.weights import keras_names, layouts
from vision_jax.weights.preprocessing import TIMM_95, TORCHVISION, Preprocessing
from vision_jax.weights.rules import Rule, SourceMapping

_mapping = partial(SourceMapping, head="fc.kernel", stem="conv1.kernel")

_BICUBIC = Preprocessing(interpolation="bicubic")
_TIMM = {
    "wide_resnet50_2": _BICUBIC,
    "wide_resnet101_2": TORCHVISION,
    "resnext101_32x8d": TORCHVISION,
}
_HUGGINGFACE = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_KERAS = ("resnet50", "resnet101", "resnet152")


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one per library; see `sources`."""
    timm = _TIMM.get(name, Preprocessing(crop=TIMM_95, interpolation="bicubic"))
    found = [_mapping("torchvision"), _mapping("timm", preprocessing=timm)]
    if name in _HUGGINGFACE:
        found.append(_mapping("huggingface", rules=_HUGGINGFACE_RULES, preprocessing=_BICUBIC))
    if name in _KERAS:
        found.append(_keras(name))
    return tuple(found)


def _huggingface_path(match: re.Match[str]) -> str:
    stage, block, layer, kind, leaf = match.groups()
    norm = kind == "normalization"
    if layer == "shortcut":
        child = f"downsample.{int(norm)}"
    else:
        child = f"{'bn' if norm else 'conv'}{int(layer[len('layer.') :]) + 1}"
    return f"layer{int(stage) + 1}.{block}.{child}.{leaf}"


_HUGGINGFACE_RULES = (
    Rule(r"(?:resnet\.)?embedder\.embedder\.convolution\.(\w+)", r"conv1.\1"),
    Rule(r"(?:resnet\.)?embedder\.embedder\.normalization\.(\w+)", r"bn1.\1"),
    Rule(
        r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.(shortcut|layer\.\d)"
        r"\.(convolution|normalization)\.(\w+)",
        _huggingface_path,
    ),
    Rule(r"classifier\.1\.(\w+)", r"fc.\1"),
)


def _keras(name: str) -> SourceMapping:
    layers = [("conv1_conv", "conv1"), ("conv1_bn", "bn1")]
    for stage, depth in enumerate(build_model(name).depths, start=1):
        for block in range(depth):
            theirs, ours = f"conv{stage + 1}_block{block + 1}", f"layer{stage}.{block}"
            own = [
                (f"{theirs}_{n}_{kind}", f"{ours}.{kind}{n}") for n in (1, 2, 3) for kind in _PAIR
            ]
            if block == 0:
                own[4:4] = [(f"{theirs}_0_conv", f"{ours}.downsample.0")]
                own[6:6] = [(f"{theirs}_0_bn", f"{ours}.downsample.1")]
            layers += own
    layers.append(("predictions", "fc"))
    return _mapping(
        "keras",
        rules=keras_names.keras_rules(layers, bgr=True),
        layout=layouts.flax,
        preprocessing=keras_names.CAFFE,
        options={"stride_in": "conv1", "use_bias": True, "epsilon": keras_names.EPSILON},
        ignored=keras_names.IGNORED,
    )


_PAIR = ("conv", "bn")
