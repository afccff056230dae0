"""What tells runs that embed alike from others, wherever their folders are."""

import hashlib
import json

import jax
import numpy as np

from vision_jax.config import TrainConfig
from vision_jax.data.info import DataInfo
from vision_jax.data.resize import Resize
from vision_jax.tasks.state import TrainState

_PREPROCESSING = ("image_size", "channels", "mean", "std")


def identity_of(config: TrainConfig, info: DataInfo, state: TrainState) -> str:
    """Return the SHA-256 of a run's weights and of what is done to images before them.

    Args:
        config: the run's config.
        info: its data's shape.
        state: its weights.
    """
    data = config.data
    told = {
        "task": config.task,
        "model": json.loads(config.to_json())["model"],
        "image_shape": info.image_shape,
        "data": {name: getattr(data, name) for name in _PREPROCESSING},
    }
    resize = Resize(*data.resize)
    if resize != Resize():  # what earlier versions could not say must not change their hash
        told["resize"] = {"crop": resize.crop, "interpolation": resize.interpolation}
        told["resize"] |= {} if resize.fit == "crop" else {"fit": resize.fit}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path((state.variables, state.average)):
        rows = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {rows.dtype} {rows.shape}".encode())
        digest.update(rows.tobytes())
    return digest.hexdigest()
