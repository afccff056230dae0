"""DenseNet."""

from functools import partial

from vision_jax.models import build_model
from vision_jax.weights import keras_names, layouts
from vision_jax.weights.preprocessing import Preprocessing
from vision_jax.weights.rules import SAME_NAMES, Rule, SourceMapping

_OLD_NAMES = Rule(r"(.+\.denselayer\d+\.)(norm|conv)\.(\d\.\w+)", r"\1\2\3")  # `norm.1.weight`

_mapping = partial(SourceMapping, head="classifier.kernel", stem="features.conv0.kernel")


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one per library; see `sources`."""
    rules = (_OLD_NAMES, *SAME_NAMES)
    timm = Preprocessing(interpolation="bicubic")
    found = (
        _mapping("torchvision", rules=rules),
        _mapping("timm", rules=rules, preprocessing=timm),
    )
    in_keras = name in ("densenet121", "densenet169", "densenet201")
    return (*found, _keras(name)) if in_keras else found


def _keras(name: str) -> SourceMapping:
    layers = [("conv1_conv", "features.conv0"), ("conv1_bn", "features.norm0")]
    depths = build_model(name).depths
    for stage, depth in enumerate(depths, start=1):
        for number in range(1, depth + 1):
            theirs = f"conv{stage + 1}_block{number}"
            ours = f"features.denseblock{stage}.denselayer{number}"
            children = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
            layers += [(f"{theirs}_{old}", f"{ours}.{new}") for old, new in children.items()]
        if stage < len(depths):
            theirs, ours = f"pool{stage + 1}", f"features.transition{stage}"
            layers += [(f"{theirs}_bn", f"{ours}.norm"), (f"{theirs}_conv", f"{ours}.conv")]
    layers += [("bn", f"features.norm{len(depths) + 1}"), ("predictions", "classifier")]
    return _mapping(
        "keras",
        rules=keras_names.keras_rules(layers),
        layout=layouts.flax,
        options={"epsilon": keras_names.EPSILON},
        ignored=keras_names.IGNORED,
    )
