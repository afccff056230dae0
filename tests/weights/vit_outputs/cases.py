"""The small networks whose outputs were stored, with weights drawn by name and shape."""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np

OUTPUTS = Path(__file__).with_name("outputs.npz")
SHAPES = Path(__file__).with_name("shapes.json.gz")

# Positions are for the first; the second has fewer rows and more columns of patches.
SIZES = ((32, 32), (24, 48))

NARROW = {"patch": 8, "image_size": 32, "width": 32, "depth": 2, "heads": 2}

# By network: the model here, the source of its weights, and the options of the narrow model.
CASES = {
    "torchvision": ("vit_b_16", "torchvision", {}),
    "timm": ("vit_base_patch16_224", "timm", {}),
    "timm mean": ("vit_base_patch16_224", "timm", {"pool": "mean", "fc_norm": True}),
    "timm dinov2": ("vit_base_patch14_dinov2", "timm", {}),
    "timm registers": ("vit_base_patch14_reg4_dinov2", "timm", {}),
    "timm clip": ("vit_base_patch32_clip_quickgelu_224", "timm", {}),
    "timm clip classifier": ("vit_base_patch32_clip_224", "timm", {}),
    "timm siglip": ("vit_base_patch16_siglip_224", "timm", {}),
    "huggingface": ("vit_base_patch16_224", "huggingface", {}),
    "huggingface features": ("vit_base_patch16_224", "huggingface", {}),
    "huggingface dinov2": ("vit_base_patch14_dinov2", "huggingface", {}),
    "huggingface registers": ("vit_base_patch14_reg4_dinov2", "huggingface", {}),
    "huggingface clip": ("vit_base_patch32_clip_224", "huggingface", {}),
    "huggingface siglip": ("vit_base_patch16_siglip_224", "huggingface", {}),
    "dinov2": ("vit_base_patch14_dinov2", "dinov2", {}),
    "dinov2 registers": ("vit_base_patch14_reg4_dinov2", "dinov2", {}),
    "openai": ("vit_base_patch32_clip_224", "openai", {}),
    "vision_transformer": ("vit_base_patch16_224", "big_vision", {}),
    "big_vision": ("vit_base_patch16_224", "big_vision", {}),
    "big_vision mean": (
        "vit_base_patch16_224",
        "big_vision",
        {"pool": "mean", "class_token": False},
    ),
    "big_vision siglip": ("vit_base_patch16_siglip_224", "big_vision", {}),
}


def draw(name, shape):
    """Return the weights of a tensor by its name: scales around 1, kernels of moderate gain."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
    if name.rsplit(".", 1)[-1].rsplit("/", 1)[-1] in ("weight", "scale", "gamma", "lambda1"):
        offset = 1 if len(shape) == 1 else 0
    else:
        offset = 0
    spread = 0.2 if len(shape) < 2 else np.prod(shape) ** -0.25
    return np.asarray(offset + spread * values, np.float32)


def tensors(case, shapes):
    """Return a case's weights by the names in its library."""
    drawn = {name: draw(name, shape) for name, shape in shapes.items()}
    if case == "timm clip":
        # A projection has no bias, which timm's head has all the same.
        drawn["head.bias"][:] = 0
    return drawn


def images(size):
    """Return two images (1, height, width, 3) in [0, 1], by their size."""
    return np.random.default_rng(size[0]).random((1, *size, 3), np.float32)


def shapes():
    """Return the shapes of all networks' tensors by their names."""
    with gzip.open(SHAPES, "rt") as file:
        return json.load(file)
