"""How many devices of a CPU a run is trained on."""

import contextlib
from pathlib import Path

from vision_jax.config import (
    ModelConfig,
    TrainAutoencoder,
    TrainClassifier,
    TrainCNN,
    TrainConfig,
)
from vision_jax.errors import InputError
from vision_jax.ops.cpu.xla import OLDER
from vision_jax.parallel.cores import split_cpu, told_devices
from vision_jax.parallel.threads import core_count
from vision_jax.run.workdir import has_checkpoint, read_cpu_devices

# Images of a device below which its share of a step is too short to pay for sharing it.
_IMAGES = 16
# Side from which images of a CNN are worth dividing on any XLA; newer ones train smaller images
# faster on one device. Images of a size not asked for are taken to be smaller.
_SIDE = 64
# Each device holds a copy of the weights, the gradients and the optimizer's state.
_MOST = 8


def divide_cpu(config: TrainConfig, workdir: Path, count: int | None = None) -> None:
    """Make a CPU the devices that a run is trained on.

    Call it before JAX is used for anything else. GPUs and TPUs stay as they are.

    Args:
        config: what is trained.
        workdir: the run's folder.
        count: how many devices; by default what the environment says, else those that the run was
            begun with, else those of `faster_devices` for a new run.

    Raises:
        InputError: the batch cannot be spread over `count`, or JAX has begun with another number.
    """
    size = config.data.batch_size
    if count is not None and (count < 1 or size % count):
        raise InputError(
            f"cpu_devices is {count}; it must be at least 1 and divide batch_size, {size}"
        )
    if count is not None:
        split_cpu(count)
    elif not told_devices():
        # A damaged config is refused where it is needed. Where JAX has begun, its devices are used.
        with contextlib.suppress(InputError):
            begun = has_checkpoint(workdir)
            kept = read_cpu_devices(workdir) if begun else faster_devices(config, core_count())
            split_cpu(kept or 1)


def faster_devices(config: TrainConfig, cores: int) -> int:
    """Choose how many devices of a CPU train a run fastest.

    Networks of convolutions without batch norm run in parts that suit a cache, one after the
    other, in which much uses one core only: a device per core then has a part each. Newer XLA uses
    both cores for small images.

    Args:
        config: what is trained.
        cores: cores that there are.

    Returns:
        1, or the most devices up to `cores` that can share the batch.
    """
    if not _runs_in_parts(config) or config.optimizer.shards > 1:
        return 1
    size, parts = config.data.batch_size, config.optimizer.accumulate or 1
    most = min(cores, _MOST, size // _IMAGES)
    return next((n for n in range(most, 1, -1) if size % (n * parts) == 0), 1)


def _runs_in_parts(config: TrainConfig) -> bool:
    """Whether the config's network is one of those that were measured to be faster."""
    match config:
        case TrainCNN() | TrainClassifier(model=ModelConfig(name="cnn")):
            return OLDER or _side(config) >= _SIDE
        case TrainAutoencoder():
            return config.model.kind == "conv"
    return False


def _side(config: TrainConfig) -> int:
    size = config.data.image_size
    return min(size) if isinstance(size, tuple) else size or 0
