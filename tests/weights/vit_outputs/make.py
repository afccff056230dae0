"""Store what other libraries make of the weights and images in `cases.py`.

The narrow networks' outputs go to `outputs.npz`, and the shapes of their tensors and of those of
full-size networks to `shapes.json.gz`. Each part needs its own environment:

    pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 transformers==5.24.0
    git clone https://github.com/facebookresearch/dinov2 SOURCES/dinov2
    git clone https://github.com/openai/CLIP SOURCES/CLIP
    python tests/weights/vit_outputs/make.py torch SOURCES

    pip install flax einops
    git clone https://github.com/google-research/vision_transformer SOURCES/vision_transformer
    git clone https://github.com/google-research/big_vision SOURCES/big_vision
    python tests/weights/vit_outputs/make.py flax SOURCES
"""

import gzip
import importlib
import json
import sys

import numpy as np
from cases import OUTPUTS, SHAPES, shapes


def store(outputs, found):
    """Add outputs and shapes to those that are stored."""
    if OUTPUTS.exists():
        with np.load(OUTPUTS) as stored:
            outputs = {**stored, **outputs}
    found = {**(shapes() if SHAPES.exists() else {}), **found}
    np.savez_compressed(OUTPUTS, **dict(sorted(outputs.items())))
    text = json.dumps(dict(sorted(found.items())), separators=(",", ":"))
    with gzip.GzipFile(SHAPES, "w", mtime=0) as file:
        file.write(text.encode())


if __name__ == "__main__":
    library, sources = sys.argv[1:]
    part = importlib.import_module(f"{library}_networks")
    store(*part.make(sources))
