"""EfficientNet-Lite."""

import re
from functools import partial

from vision_jax.models import build_model
from vision_jax.weights.preprocessing import Preprocessing
from vision_jax.weights.rules import Rule, SourceMapping

_mapping = partial(SourceMapping, head="classifier.kernel", stem="conv_stem.kernel")

_SIZES = (224, 240, 260, 280, 300)
_TIMM_SIZES = (224, 240, 260, 300, 380)
_HALF = (0.5,) * 3


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one per library; see `sources`.

    timm's names are the same for its own networks and its ports from TensorFlow, which have
    another padding and epsilon. A model of the ports' name takes theirs; any other has to be told.
    """
    number = int(name[-1])
    pytorch = _mapping(
        "efficientnet_lite_pytorch",
        rules=_pytorch_rules(name),
        preprocessing=_preprocessing(_SIZES[number], (127 / 255,) * 3, (128 / 255,) * 3),
    )
    ported = partial(
        _mapping,
        preprocessing=_preprocessing(_TIMM_SIZES[number], _HALF, _HALF, bicubic=number < 3),
    )
    if name.startswith("tf_"):
        return pytorch, ported("timm")
    own = _mapping(
        "timm",
        preprocessing=Preprocessing(interpolation="bicubic"),
        options={"padding": "symmetric", "epsilon": 1e-5},
    )
    return pytorch, own, ported("timm_tf")


def _preprocessing(
    size: int, mean: tuple[float, ...], std: tuple[float, ...], bicubic: bool = True
) -> Preprocessing:
    crop = size / (size + 32)  # TensorFlow's
    return Preprocessing(size, crop, "bicubic" if bicubic else "bilinear", mean, std)


_LAYERS = {"expand_conv": "conv_pw", "depthwise_conv": "conv_dw", "project_conv": "conv_pwl"}
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


def _pytorch_rules(name: str) -> tuple[Rule, ...]:
    """Return the rules for blocks that are counted through all stages."""
    depths = build_model(name).depths
    blocks = [(stage, place) for stage, depth in enumerate(depths) for place in range(depth)]

    def path(match: re.Match[str]) -> str | None:
        number, layer, norm, leaf = match.groups()
        if int(number) >= len(blocks):
            return None
        stage, place = blocks[int(number)]
        if norm is not None:
            layer = f"bn{int(norm) + (stage > 0)}"
        elif stage == 0 and layer == "project_conv":
            layer = "conv_pw"
        else:
            layer = _LAYERS[layer]
        return f"blocks.{stage}.{place}.{layer}.{leaf}"

    ends = tuple(Rule(rf"{theirs}\.(\w+)", rf"{ours}.\1") for theirs, ours in _ENDS.items())
    layers = "|".join(_LAYERS)
    return (
        Rule(rf"_blocks\.(\d+)\._(?:({layers})|bn(\d))\.(\w+)", path),
        Rule(r"_fc\.(\w+)", r"classifier.\1"),
        *ends,
    )
