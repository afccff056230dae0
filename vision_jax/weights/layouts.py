"""Conventions of frameworks: names of leaves and the order of axes, turned into Flax's."""

from collections.abc import Callable

import numpy as np

Tensor = np.ndarray

_PYTORCH_LEAVES = {"running_mean": "mean", "running_var": "var"}


def pytorch(leaf: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Name and lay out a tensor of PyTorch's as Flax does.

    Args:
        leaf: Last level of its name.
        tensor: A convolution's kernel (out, in, height, width), a dense one (out, in), a vector, or
            what a module keeps under a name of its own, which stays as it is.

    Returns:
        The leaf's name and the tensor: kernels (height, width, in, out) and (in, out).
    """
    if leaf != "weight":
        return _PYTORCH_LEAVES.get(leaf, leaf), tensor
    if tensor.ndim == 4:
        return "kernel", tensor.transpose(2, 3, 1, 0)
    return ("kernel", tensor.T) if tensor.ndim == 2 else ("scale", tensor)


def flax(leaf: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Leave a leaf's name and tensor as they are."""
    return leaf, tensor


def after_flatten(size: int) -> Callable[[Tensor], Tensor]:
    """Lay out PyTorch's dense kernel that sees a flattened map.

    Args:
        size: Height and width of the map.

    Returns:
        A function from the kernel (out, channels * size * size), or the same as a convolution's
        (out, channels, size, size), to (size * size * channels, out): channels come last here.
    """

    def change(tensor: Tensor) -> Tensor:
        kernel = tensor.reshape(len(tensor), -1, size, size)
        return kernel.transpose(2, 3, 1, 0).reshape(-1, len(tensor))

    return change


def reversed_channels(tensor: Tensor) -> Tensor:
    """Make a first kernel (height, width, in, out) for BGR images one for RGB.

    Raises:
        ValueError: The kernel has another number of axes.
    """
    if tensor.ndim != 4:
        raise ValueError(f"a kernel is {tensor.shape}, needs four axes")
    return tensor[:, :, ::-1]
