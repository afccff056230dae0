"""ResNet, Wide ResNet for ImageNet and ResNeXt."""

from functools import partial

from vision_jax.weights.preprocessing import Preprocessing
from vision_jax.weights.rules import SourceMapping

_mapping = partial(SourceMapping, head="fc.kernel", stem="conv1.kernel")


def mappings(name: str) -> tuple[SourceMapping, ...]:
    """Return the mappings of a model, one per library; see `sources`."""
    del name  # all are alike
    return (
        _mapping("torchvision"),
        _mapping("timm", preprocessing=Preprocessing(224, 0.95, "bicubic")),
    )
