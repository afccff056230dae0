"""The seeded weights and inputs on which Keras's outputs were stored, in NumPy alone.

Each network is a list of layers in Keras's order; a layer's arrays are in the order and layout of
its Keras `get_weights()`.
"""

from pathlib import Path

import numpy as np

STORED = Path(__file__).with_name("outputs.npz")

# By network: the shape of an input, and (kind, kernel shape in Keras's layout) of each layer.
NETWORKS = {
    "cnn": (
        (224, 224, 3),
        [
            ("conv", (3, 3, 3, 32)),
            ("conv", (3, 3, 32, 64)),
            ("conv", (3, 3, 64, 128)),
            ("conv", (3, 3, 128, 128)),
            ("dense", (18432, 512)),
            ("dense", (512, 10)),
        ],
    ),
    "autoencoder": (
        (28, 28, 1),
        [
            ("conv", (3, 3, 1, 16)),
            ("conv", (3, 3, 16, 8)),
            ("conv", (3, 3, 8, 8)),
            ("conv", (3, 3, 8, 8)),
            ("conv", (3, 3, 8, 16)),
            ("conv", (3, 3, 16, 1)),
        ],
    ),
    "generator": (
        (100,),
        [
            ("dense without bias", (100, 4096)),
            ("norm", (4096,)),
            ("transposed", (5, 5, 128, 256)),
            ("norm", (128,)),
            ("transposed", (5, 5, 64, 128)),
            ("norm", (64,)),
            ("transposed", (5, 5, 3, 64)),
        ],
    ),
    "discriminator": (
        (16, 16, 3),
        [
            ("conv", (5, 5, 3, 64)),
            ("conv", (5, 5, 64, 128)),
            ("dense", (2048, 1)),
        ],
    ),
}


def weights(network):
    """The layers' arrays: (kernel[, bias]), or a norm's (scale, bias, mean, variance)."""
    rng = np.random.default_rng(7)
    return [_layer(rng, kind, shape) for kind, shape in NETWORKS[network][1]]


def inputs(network):
    """Two inputs, (2, ...) float32 in [0, 1)."""
    return np.random.default_rng(11).random((2, *NETWORKS[network][0]), np.float32)


def _layer(rng, kind, shape):
    if kind == "norm":
        scale, bias, mean, variance = rng.random((4, *shape), np.float32)
        return [scale + np.float32(0.5), bias - np.float32(0.5), mean, variance + np.float32(0.5)]
    # A transposed kernel holds its inputs last.
    fan_in = np.prod(shape[:2]) * shape[3] if kind == "transposed" else np.prod(shape[:-1])
    kernel = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
    if kind in ("transposed", "dense without bias"):
        return [kernel]
    return [kernel, rng.standard_normal(shape[-1], np.float32) * np.float32(0.1)]
