"""Stopping a run whose loss, weights or embeddings are past repair."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vision_jax.data.loader import Loader
from vision_jax.errors import RunError
from vision_jax.tasks.base import Judges, Task
from vision_jax.tasks.state import Metrics, TrainState
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.metrics import compute

_KEYS_NAMED = 12


class TrainingDivergedError(RunError):
    """The loss is NaN or infinite; earlier checkpoints are whole."""

    final = True


def check_collapse(task: Task, figures: dict[str, float], step: int) -> None:
    """Stop a run whose embeddings no longer tell images apart.

    Raises:
        TrainingDivergedError: they have collapsed.
    """
    told = task.collapsed(figures) if figures and isinstance(task, Judges) else None
    if told:
        raise TrainingDivergedError(
            f"the run has collapsed at step {step}: {told}. A lower learning_rate, a larger "
            "batch_size or another loss may help; the last checkpoint is kept"
        )


def check_loss(train: Loader, checkpoints: Checkpoints | None, step: int, metrics: Metrics) -> None:
    """Stop a run whose loss at a step is NaN or infinite.

    Raises:
        TrainingDivergedError: it is.
    """
    loss = compute({"loss": metrics["loss"]})["loss"]
    if not math.isfinite(loss):
        raise _diverged(train, checkpoints, step, f"the training loss is {loss}")


def check_weights(
    train: Loader, checkpoints: Checkpoints | None, step: int, state: TrainState
) -> None:
    """Refuse to save weights whose next loss would be NaN or infinite.

    Raises:
        TrainingDivergedError: a weight is.
    """
    if not _all_finite(state.params):
        raise _diverged(train, checkpoints, step, "a weight is NaN or infinite")


@jax.jit
def _all_finite(tree: Any) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _diverged(
    train: Loader, checkpoints: Checkpoints | None, step: int, what: str
) -> TrainingDivergedError:
    saved = checkpoints.find("last") if checkpoints else None
    kept = "no checkpoint was saved" if saved is None else f"the checkpoint of step {saved} is kept"
    indices = train.indices(step - 1).tolist()
    keys = ", ".join(train.source.key(index) for index in indices[:_KEYS_NAMED])
    more = len(indices) - _KEYS_NAMED
    return TrainingDivergedError(
        f"{what} at step {step}; {kept}. A lower learning_rate may help. "
        f"The step's images: {keys}" + (f" and {more} more" if more > 0 else "")
    )
