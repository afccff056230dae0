"""Operations and bytes of a training step: counted in a lowered module, and by layers on paper."""

import math
import re
from typing import NamedTuple

BYTES = {"bf16": 2, "f32": 4}


class Product(NamedTuple):
    """A convolution or matrix product of a module.

    Attributes:
        kinds: element types of both operands.
        shapes: of both operands and the result.
        flops: 2 for each multiplication of two elements that are there, not padding or holes.
        bytes: of both operands and the result.
    """

    kinds: tuple[str, str]
    shapes: tuple[tuple[int, ...], ...]
    flops: int
    bytes: int


def products(module):
    """All convolutions and products of floats in a module's text."""
    rows = re.findall(r"stablehlo\.(convolution|dot_general)(.*): \((.*)\) -> (\S+)", module)
    return [
        _product(name, attributes, operands, result)
        for name, attributes, operands, result in rows
        if "f32" in operands or "bf16" in operands
    ]


def _product(name, attributes, operands, result):
    tensors = [tensor(text) for text in [*operands.split(", "), result]]
    (left, a), (right, b), (out, _) = tensors
    if name == "convolution":
        macs = _convolved(attributes, left, right, out)
    else:
        axes = re.search(r"contracting_dims = \[([\d, ]*)\]", attributes)[1]
        macs = math.prod(out) * math.prod(left[int(axis)] for axis in axes.split(","))
    size = sum(math.prod(shape) * BYTES[kind] for shape, kind in tensors)
    return Product((a, b), (left, right, out), 2 * macs, size)


def tensor(text):
    """Read the shape and the element type of a tensor's type."""
    *sizes, kind = re.search(r"tensor<([^>]*)>", text)[1].split("x")
    return tuple(map(int, sizes)), kind


def _convolved(attributes, left, right, out):
    """Multiplications of a convolution, by each spatial axis."""
    names = re.search(r"\[(.*?)\]x\[(.*?)\]->\[(.*?)\]", attributes)
    lhs, rhs, result = (part.split(", ") for part in names.groups())
    window = {
        name: [int(n) for n in re.findall(r"-?\d+", found[1])]
        for name in ("stride", "pad", "lhs_dilate", "rhs_dilate")
        if (found := re.search(rf"{name} = (\[\[.*?\]\]|\[.*?\])", attributes))
    }
    macs = left[lhs.index("b")] * right[rhs.index("o")] * right[rhs.index("i")]
    groups = int(re.search(r"batch_group_count = (\d+)", attributes)[1])
    for axis in range(2):
        place = str(axis)
        macs *= taps(
            left[lhs.index(place)],
            right[rhs.index(place)],
            out[result.index(place)],
            stride=window.get("stride", (1, 1))[axis],
            low=window.get("pad", (0, 0, 0, 0))[2 * axis],
            holes=window.get("lhs_dilate", (1, 1))[axis],
            spread=window.get("rhs_dilate", (1, 1))[axis],
        )
    return macs // groups


def taps(size, window, outputs, *, stride=1, low=0, holes=1, spread=1):
    """Pairs of an output and a window's place that meet an element, along one axis."""
    count = 0
    for output in range(outputs):
        for place in range(window):
            at = output * stride + place * spread - low
            count += 0 <= at <= (size - 1) * holes and at % holes == 0
    return count


class Layer(NamedTuple):
    """What a layer needs for one example.

    Attributes:
        macs: multiplications forwards.
        sizes: elements of its input and its output.
        weights: elements of its kernel; 0 if both operands are activations.
    """

    macs: int
    sizes: tuple[int, int]
    weights: int


def conv(size, window, stride, channels, features, low=None):
    """A convolution of square images; `low` pads the start, by default as SAME does."""
    outputs = -(-size // stride)
    if low is None:
        low = max((outputs - 1) * stride + window - size, 0) // 2
    macs = taps(size, window, outputs, stride=stride, low=low) ** 2 * channels * features
    sizes = (size**2 * channels, outputs**2 * features)
    return Layer(macs, sizes, window**2 * channels * features)


def dense(width, out, rows=1):
    """A dense layer on some rows an example."""
    return Layer(rows * width * out, (rows * width, rows * out), width * out)


def passes(layers, batch, *, forward=1, weights=1, inputs=1, first=0):
    """Flops and bytes of some passes through layers, in bfloat16.

    Args:
        layers: in order.
        batch: examples.
        forward: passes forwards.
        weights: times that the weights' gradient is computed.
        inputs: times that the inputs' gradient is computed, in all layers but the first.
        first: times that it is computed in the first layer.
    """
    flops = size = 0
    for number, layer in enumerate(layers):
        times = forward + weights + (inputs if number else first)
        flops += times * 2 * batch * layer.macs
        size += times * 2 * (batch * sum(layer.sizes) + layer.weights)
    return flops, size
