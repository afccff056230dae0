"""Models whose weights were trained elsewhere: they embed, and classify if they have a head."""

import dataclasses
from typing import Any, ClassVar, Literal

import optax
from jaxtyping import Array, Float

from vision_jax.config import ImportedModel
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Batch
from vision_jax.models import build_model
from vision_jax.tasks.base import ModelTask
from vision_jax.tasks.classification import Classification


@dataclasses.dataclass(frozen=True)
class Imported(ModelTask):
    """A model without an output layer, which embeds and is not trained."""

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = None

    @classmethod
    def from_config(
        cls, config: ImportedModel, info: DataInfo, optimizer: optax.GradientTransformation
    ) -> ModelTask:
        """Build the task of an imported model: a `Classification` if it has classes.

        Raises:
            InputError: the model is unknown, or does not take its options.
        """
        del optimizer  # whose state would take twice the weights' space
        told = {"mean": config.data.mean, "std": config.data.std, "dtype": config.precision}
        model = build_model(config.model.name, **config.model.options, **told)
        if info.label_names is None:
            return cls(model, optax.identity())
        return Classification(model, optax.identity())

    def examples(
        self, output: Any, endpoints: dict[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " batch"]]:
        """Return no metrics: there is nothing to measure it by; see `ModelTask`."""
        return {}
