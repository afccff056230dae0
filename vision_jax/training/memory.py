"""The memory that a run's state takes on each device, counted from its shapes."""

from functools import partial
from typing import Any

import jax
import numpy as np

from vision_jax.parallel.shards import parts
from vision_jax.tasks import stages
from vision_jax.tasks.base import Task
from vision_jax.training.loop import initial_state


def state_memory(
    task: Task, image_shape: tuple[int, int, int], *, shards: int = 1
) -> dict[str, int]:
    """Count the bytes that the state and a step's gradients take on a device.

    Nothing is computed or allocated. Activations, batches and XLA's temporary buffers come on top;
    `device_memory` in the log of a run is the peak with them.

    Args:
        task: what is trained, its optimizer built with the same `shards`.
        image_shape: (height, width, channels).
        shards: devices that share the optimizer's state and the average.

    Returns:
        Bytes of `parameters`, `statistics`, `gradients`, `optimizer` and `average`.

    >>> import optax
    >>> from vision_jax.models import CNN
    >>> from vision_jax.tasks.classification import Classification
    >>> task = Classification(CNN(num_classes=10), optax.adam(1e-3))
    >>> memory = state_memory(task, (28, 28, 1))
    >>> memory["optimizer"] // memory["parameters"]
    2
    """
    state = jax.eval_shape(lambda: initial_state(task, 0, image_shape))
    trained, _ = stages.split(state.params, getattr(task, "frozen", frozenset()))
    splits = shards > 1 and not task.needs.average
    part = partial(parts, count=shards)
    average = (
        jax.eval_shape(partial(jax.tree.map, part), state.average) if splits else state.average
    )
    return {
        "parameters": _bytes(state.params),
        "statistics": _bytes(state.stats),
        "gradients": _bytes(trained),
        "optimizer": _bytes(state.opt_state) // shards,
        "average": _bytes(average) // (shards if splits else 1),
    }


def _bytes(tree: Any) -> int:
    return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
