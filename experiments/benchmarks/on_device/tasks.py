"""The project's tasks, with weights that are the same on every platform."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vision_jax.data.loader import blank_batch
from vision_jax.models import build_model
from vision_jax.models.autoencoder import ConvAutoencoder
from vision_jax.models.cnn import CNN
from vision_jax.models.gan import Discriminator, Generator
from vision_jax.models.resnet import ResNet
from vision_jax.tasks.adversarial import Adversarial
from vision_jax.tasks.classification import Classification
from vision_jax.tasks.reconstruction import Reconstruction
from vision_jax.tasks.state import TrainState

STAGES = (32, 64, 128, 128)
SHAPES = {"cnn224": (224, 224, 3), "autoencoder28": (28, 28, 1), "gan16": (16, 16, 3)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def build(
    network: str, dtype: str = "float32", rate: optax.GradientTransformation | None = None
) -> Any:
    """Build a task: `cnn224`, `autoencoder28`, `gan16`, or one that classifies by a named model.

    `resnet_tiny` is a stage of one bottleneck, to try things on a CPU.

    Args:
        network: its name.
        dtype: to compute in.
        rate: the update rule, in place of the network's own.
    """
    if network == "gan16":
        adam = rate or optax.adam(1e-4, b1=0.5)
        return Adversarial(Generator(dtype=dtype), Discriminator(dtype=dtype), adam, ema=0.0)
    if network == "autoencoder28":
        return Reconstruction(ConvAutoencoder(dtype=dtype), rate or optax.adam(1e-3))
    if network == "cnn224":
        model = CNN(10, stages=STAGES, padding="VALID", dtype=dtype)
        return Classification(model, rate or optax.adam(1e-3))
    if network == "resnet_tiny":
        model = ResNet(depths=(1,), bottleneck=True, dtype=dtype, **IMAGENET)
    else:
        model = build_model(network, num_classes=1000, dtype=dtype, **IMAGENET)
    return Classification(model, rate or optax.sgd(0.1, momentum=0.9, nesterov=True))


def batch_of(shape: tuple[int, int, int], count: int, classes: int = 10) -> dict[str, np.ndarray]:
    """Draw uint8 images of smooth random colours, labels and a mask."""
    random = np.random.default_rng(0)
    side = max(4, shape[0] // 16)
    coarse = random.integers(0, 256, (count, side, side, shape[2]))
    rows, columns = (np.arange(size) * side // size for size in shape[:2])
    images = coarse[:, rows][:, :, columns] * 0.75 + random.integers(0, 64, (count, *shape))
    labels = random.integers(0, classes, count).astype(np.int32)
    return {"image": images.astype(np.uint8), "label": labels, "mask": np.ones(count, bool)}


def host_state(task: Any, shape: tuple[int, int, int], seed: int = 0) -> TrainState:
    """Make a task's state of NumPy arrays, without compiling anything.

    Kernels are normal with variance 2 / inputs, scales and variances 1, all else 0.
    """
    random = np.random.default_rng(seed)
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0), blank_batch(shape)))

    def zeros(leaf: Any) -> np.ndarray:
        return np.zeros(leaf.shape, leaf.dtype)

    def weights(path: Any, leaf: Any) -> np.ndarray:
        name = str(getattr(path[-1], "key", path[-1]))
        if name in ("scale", "var"):
            return np.ones(leaf.shape, leaf.dtype)
        if len(leaf.shape) < 2:
            return zeros(leaf)
        spread = math.sqrt(2 / math.prod(leaf.shape[:-1]))
        return (random.standard_normal(leaf.shape, np.float32) * spread).astype(leaf.dtype)

    return TrainState(
        step=np.zeros((), np.int32),
        key=key,
        params=jax.tree_util.tree_map_with_path(weights, shapes.params),
        stats=jax.tree_util.tree_map_with_path(weights, shapes.stats),
        opt_state=jax.tree.map(zeros, shapes.opt_state),
        average=jax.tree.map(zeros, shapes.average),
    )


def float_shapes(batch: dict[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
    """Describe the float batch that a step sees."""
    shapes = {name: jax.ShapeDtypeStruct(rows.shape, rows.dtype) for name, rows in batch.items()}
    return shapes | {"image": jax.ShapeDtypeStruct(batch["image"].shape, jnp.float32)}
