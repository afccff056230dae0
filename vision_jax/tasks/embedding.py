"""What tasks share that train embeddings: judged by a whole set, watched for collapse."""

import dataclasses
import inspect
import math
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from vision_jax.checked import checked_value, require
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Batch
from vision_jax.data.sources import evenly_spaced
from vision_jax.errors import InputError
from vision_jax.parallel.devices import AXIS
from vision_jax.search.arrays import without_direction
from vision_jax.search.evaluation import evaluate_retrieval
from vision_jax.tasks.base import ModelTask, gather
from vision_jax.tasks.spread import collapse, spread
from vision_jax.tasks.state import Metrics, TrainState

_QUERIES, _SCORES = 1024, 4096 * 4096
"""How many images are looked up after each epoch: at least so many, or so many scores in all."""


@dataclasses.dataclass(frozen=True)
class EmbeddingTask(ModelTask):
    """A task judged by the embeddings of a whole set, and not image by image.

    Attributes:
        model: a `models.embedder.Embedder`.
    """

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = ("map@r", "max")
    judged: ClassVar[tuple[str, ...]] = ("map@r", "recall@1")

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Embed a batch.

        Args:
            state: the state.
            batch: as for `train_step`, without augmentation.

        Returns:
            `embedding` (B, D), `mask` (B,) and, with labels, `label` (B,), of all devices.
        """
        kept = {name: batch[name] for name in ("mask", "label") if name in batch}
        return gather({"embedding": self.embed(state, batch["image"]), **kept})

    def judge(
        self,
        vectors: Float[np.ndarray, "images dim"],
        labels: Integer[np.ndarray, " images"] | None,
    ) -> dict[str, float]:
        """Measure the embeddings of a set.

        Args:
            vectors: (N, D).
            labels: (N,), or None.

        Returns:
            What `tasks.spread.spread` returns and, with labels, `recall@1` and `map@r` of a search
            for each image among the others; of more than 4,096 images for some of them, evenly
            spaced. NaN where no two vectors that have a direction share a label, or one has NaN or
            infinity.
        """
        figures = spread(vectors, labels)
        if labels is None:
            return figures
        rows = np.delete(np.arange(len(labels)), without_direction(vectors))
        _, places, counts = np.unique(labels[rows], return_inverse=True, return_counts=True)
        rows = rows[counts[places] > 1]
        if not np.isfinite(vectors).all() or not len(rows):
            return figures | dict.fromkeys(self.judged, math.nan)
        asked = rows[evenly_spaced(len(rows), max(_QUERIES, _SCORES // len(labels)))]
        found = evaluate_retrieval(
            vectors[asked], labels[asked], vectors, labels, ks=(1,), ignore=asked
        )
        return figures | {"recall@1": found["hit_rate@1"], "map@r": found["map@r"]}

    def collapsed(self, figures: dict[str, float]) -> str | None:
        """Say in which way the embeddings of `judge` have collapsed; None if they have not."""
        return collapse(figures)


def loss_options(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Check the options of a loss, which are its keyword-only arguments.

    Args:
        function: the loss.
        given: values by name.

    Raises:
        InputError: the loss has no such option, or it is of another type or out of range.
    """
    parameters = inspect.signature(function).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in _TOLD]
    hints = typing.get_type_hints(getattr(function, "func", function))  # of a partial's function
    for option in given:
        if option not in allowed:
            listed = ", ".join(allowed) or "none"
            raise InputError(f"loss_options has {option!r}; with this loss it takes {listed}")
    options = {
        option: checked_value(value, hints[option], f"loss_options.{option}")
        for option, value in given.items()
    }
    for option in options.keys() & _RANGES.keys():
        fits, needed = _RANGES[option]
        value = options[option]
        require(value is None or fits(value), f"loss_options.{option}", value, needed)
    return options


_TOLD = {"mask", "first", "chunk"}
_ABOVE_0: tuple[Callable[[float], bool], str] = (lambda value: value > 0, "above 0")
_FROM_0: tuple[Callable[[float], bool], str] = (lambda value: value >= 0, "at least 0")
# An option has the same range in every loss that has it.
_RANGES = {
    **dict.fromkeys(("temperature", "student_temperature", "teacher_temperature"), _ABOVE_0),
    **dict.fromkeys(("scale", "alpha", "beta"), _ABOVE_0),
    **dict.fromkeys(("margin", "cosine_margin", "epsilon"), _FROM_0),
    "angular_margin": (lambda value: 0 <= value < math.pi, "in [0, π)"),
}


def embedding_width(model: Any, info: DataInfo) -> int:
    """Return the width of what a model returns for images of a data set.

    Raises:
        InputError: the model does not take images of this shape.
    """
    images = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    try:
        (output, _), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    except ValueError as error:
        raise InputError(
            f"the model does not take images of {info.image_shape}: {error}"
        ) from error
    return int(output.shape[-1])


def first_row(rows: Array) -> Array:
    """Return the place of this device's first row among those of `gather`."""
    return jax.lax.axis_index(AXIS) * jnp.int32(len(rows))
