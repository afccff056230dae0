"""Rates of each convolution and its gradients: this project's forms beside XLA's own.

    python experiments/benchmarks/layers.py                 # every network, about 3 minutes
    python experiments/benchmarks/layers.py --network gan   # one of them
    python experiments/benchmarks/layers.py --repeats 30    # steadier figures

The table has one row per layer and operation. A rate is the nominal work (2 x batch x output pixels
x kernel weights, products with padding included) over the median time. A form that skips padding
can therefore exceed the rate of the matrix product measured beside it. Forms take turns, so a
machine that slows down slows all of them: trust the ratios. On a GPU or TPU both forms are the same
operation.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops import conv

MATRIX = 2048


@dataclass(frozen=True)
class Layer:
    """A square convolution: image side, channels, features, kernel side, stride, padding."""

    batch: int
    side: int
    channels: int
    features: int
    kernel: int = 3
    stride: int = 1
    padding: str = "SAME"
    transposed: bool = False  # of a GAN's generator: the input gradient is its forward pass
    depthwise: bool = False

    def __str__(self) -> str:
        text = f"{self.batch}x{self.side}x{self.side}x{self.channels}->{self.features}"
        mark = " transposed" if self.transposed else " depthwise" if self.depthwise else ""
        return f"{text} k{self.kernel} s{self.stride} {self.padding}{mark}"


NETWORKS: dict[str, list[Layer]] = {
    "cnn28": [Layer(256, 28, 1, 32), Layer(256, 14, 32, 64), Layer(256, 7, 64, 128)],
    "autoencoder28": [
        Layer(256, 28, 1, 16),
        Layer(256, 14, 16, 8),
        Layer(256, 7, 8, 8),
        Layer(256, 14, 8, 16),
        Layer(256, 28, 16, 1),
    ],
    "gan16": [
        Layer(256, 4, 256, 128, 5, transposed=True),
        Layer(256, 8, 64, 128, 5, 2),  # also the generator's second, transposed
        Layer(256, 16, 3, 64, 5, 2),  # also the generator's last, transposed
    ],
    "cnn224": [
        Layer(32, 224, 3, 32, padding="VALID"),
        Layer(32, 111, 32, 64, padding="VALID"),
        Layer(32, 54, 64, 128, padding="VALID"),
        Layer(32, 26, 128, 128, padding="VALID"),
    ],
    "vgg32": [Layer(64, 32, 64, 64), Layer(64, 16, 128, 128), Layer(64, 8, 256, 256)],
    "resnet32": [
        Layer(64, 32, 16, 16),
        Layer(64, 32, 64, 128, 3, 2),
        Layer(64, 16, 128, 256, 1, 2),
    ],
    "vgg224": [Layer(4, 224, 64, 64), Layer(4, 112, 128, 128), Layer(4, 28, 512, 512)],
    "resnet224": [
        Layer(8, 224, 3, 64, 7, 2),
        Layer(8, 56, 64, 64, 1),
        Layer(8, 56, 128, 128, 3, 2),
        Layer(8, 14, 512, 512, 3, 2),
        Layer(8, 7, 512, 512),
    ],
    "lite224": [
        Layer(16, 112, 32, 32, depthwise=True),
        Layer(16, 112, 96, 96, 3, 2, depthwise=True),
        Layer(16, 56, 144, 144, 5, 2, depthwise=True),
        Layer(16, 14, 480, 480, 5, depthwise=True),
        Layer(16, 7, 1152, 1152, 5, depthwise=True),
    ],
}


def convolve(
    x: jax.Array, kernel: jax.Array, *, strides: tuple[int, int], padding: str, groups: int
) -> jax.Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def operations(layer: Layer) -> tuple[dict[str, tuple[Callable, Callable, tuple]], float]:
    """For each operation its own form, XLA's form and the operands; and the nominal work."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (layer.batch, layer.side, layer.side, layer.channels))
    groups = layer.channels if layer.depthwise else 1
    kernel = jax.random.normal(
        keys[1], (layer.kernel, layer.kernel, layer.channels // groups, layer.features)
    )
    options = {
        "strides": (layer.stride, layer.stride),
        "padding": layer.padding,
        "groups": groups,
    }
    g = jax.random.normal(keys[2], jax.eval_shape(partial(conv, **options), x, kernel).shape)

    def forms(convolution: Callable) -> dict[str, Callable]:
        return {
            "forward": partial(convolution, **options),
            "input_grad": lambda g, kernel: jax.linear_transpose(
                lambda x: convolution(x, kernel, **options), x
            )(g)[0],
            "kernel_grad": lambda x, g: jax.linear_transpose(
                lambda kernel: convolution(x, kernel, **options), kernel
            )(g)[0],
        }

    own, xla = forms(conv), forms(convolve)
    operands = {"forward": (x, kernel), "input_grad": (g, kernel), "kernel_grad": (x, g)}
    chosen = {
        name: (jax.jit(own[name]), jax.jit(xla[name]), arrays) for name, arrays in operands.items()
    }
    return chosen, 2.0 * g.size * kernel.size / layer.features


def times(calls: list[Callable[[], jax.Array]], repeats: int, seconds: float) -> list[float]:
    """Median seconds of each call; they take turns until the repeats or the seconds are spent."""
    for call in calls:
        call().block_until_ready()
    spent: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 3 and time.perf_counter() - start > seconds:
            break
        for call, record in zip(calls, spent, strict=True):
            begin = time.perf_counter()
            call().block_until_ready()
            record.append(time.perf_counter() - begin)
    return [statistics.median(record) for record in spent]


def report(layer: Layer, repeats: int, seconds: float) -> None:
    """Time the forms of a layer that this project would choose beside those of XLA."""
    chosen, work = operations(layer)
    matrix = jnp.ones((MATRIX, MATRIX))
    product = jax.jit(jnp.matmul)
    for name, (own, xla, operands) in chosen.items():
        mine, theirs, base = times(
            [partial(own, *operands), partial(xla, *operands), partial(product, matrix, matrix)],
            repeats,
            seconds,
        )
        rate = 2.0 * MATRIX**3 / base
        print(
            f"| {layer} | {name} | {mine * 1e3:.1f} | {work / mine / 1e9:.0f} "
            f"| {work / mine / rate:.2f} | {work / theirs / 1e9:.0f} | {theirs / mine:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--network", action="append", choices=NETWORKS, help="only this one; may be repeated"
    )
    parser.add_argument("--repeats", type=int, default=15, help="turns of each form (15)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="no new turn of an operation after (4)"
    )
    parser.add_argument("--batch", type=int, help="batch size in place of each layer's own")
    args = parser.parse_args()
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform} ({device.device_kind})\n")
    print("| layer | operation | ms | GFLOP/s | of matrix product | XLA GFLOP/s | faster |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for network in args.network or NETWORKS:
        for layer in NETWORKS[network]:
            report(replace(layer, batch=args.batch or layer.batch), args.repeats, args.seconds)


if __name__ == "__main__":
    main()
