"""Rules for the layers of Keras's applications, as its formats of weights name them."""

import re
from collections.abc import Sequence

from vision_jax.weights import layouts
from vision_jax.weights.preprocessing import Preprocessing
from vision_jax.weights.rules import Rule

CAFFE = Preprocessing(
    mean=(123.68 / 255, 116.779 / 255, 103.939 / 255), std=(1 / 255, 1 / 255, 1 / 255)
)
"""Of networks that see BGR less a mean, once their first kernel is reversed."""

IGNORED = ("optimizer(_weights)?/.+", ".*seed_generator.*")
EPSILON = 1.001e-5

_LEAVES = {
    "kernel": "kernel",
    "W": "kernel",
    "bias": "bias",
    "b": "bias",
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "moving_variance": "var",
}
_IN_ORDER = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("scale", "bias", "mean", "var"),
}


def keras_rules(layers: Sequence[tuple[str, str]], *, bgr: bool = False) -> tuple[Rule, ...]:
    """Return the rules for layers that have weights.

    Understood are `LAYER/LAYER/kernel:0` of Keras 2 (and `LAYER/LAYER_W_1:0` of its first
    versions), `model_weights/LAYER/LAYER/kernel` of whole models, and `layers/conv2d_1/vars/0` of
    Keras 3, which counts the layers of each kind.

    Args:
        layers: Keras's name and the path here of each layer, in the order of `model.layers`.
        bgr: Whether the first one sees BGR, for which its kernel is reversed.

    Returns:
        The rules, which rename leaves as well.
    """
    paths = dict(layers)
    counted: dict[str, list[str]] = {kind: [] for kind in _IN_ORDER}
    for name, path in layers:
        counted[_kind(name)].append(path)

    def named(match: re.Match[str]) -> str:
        layer, leaf = match.groups()
        return f"{paths[layer.replace('/', '_')]}.{_LEAVES[leaf]}"

    def numbered(match: re.Match[str]) -> str | None:
        kind, number, place = match[1], int(match[2] or 0), int(match[3])
        if number >= len(counted[kind]) or place >= len(_IN_ORDER[kind]):
            return None
        return f"{counted[kind][number]}.{_IN_ORDER[kind][place]}"

    # Older files have "/" in two of the names, and `bn` alone ends others.
    names = "|".join(name.replace("conv1_", "conv1[_/]") for name in paths)
    leaves = "|".join(_LEAVES)
    rules = (
        Rule(rf"(?:.+?/)?({names})(?:_\d+)?[/_]({leaves})(?:_\d+)?(?::0)?", named),
        Rule(rf"(?:.+/)?({'|'.join(_IN_ORDER)})(?:_(\d+))?/vars/(\d)", numbered),
    )
    return (*(_reversing(rule, layers[0][1]) for rule in rules), *rules) if bgr else rules


def _kind(layer: str) -> str:
    if layer.endswith("bn"):
        return "batch_normalization"
    return "dense" if layer.startswith(("fc", "predictions")) else "conv2d"


def _reversing(rule: Rule, layer: str) -> Rule:
    """Return a rule for a layer's kernel alone, which is for BGR."""
    path = f"{layer}.kernel"

    def first(match: re.Match[str]) -> str | None:
        return path if rule.path_for(match[0]) == path else None

    return Rule(rule.name, first, change=layouts.reversed_channels)
