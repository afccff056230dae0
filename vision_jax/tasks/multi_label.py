"""Classification of images that may have any number of labels: a sigmoid for each."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from vision_jax.config import TrainClassifier, TrainCNN
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Batch
from vision_jax.errors import InputError
from vision_jax.losses.classification import sigmoid_cross_entropy
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.base import Needs, masked_sum
from vision_jax.tasks.classification import Classification
from vision_jax.tasks.state import Metrics, TrainState

_BINS = 2048
_LIMIT = 16.0
"""Logits beyond it, probabilities within 1e-7 of 0 or 1, share a bin."""


@dataclasses.dataclass(frozen=True)
class MultiLabelClassification(Classification):
    """A classifier's loss and metrics, where each label is there or not on its own.

    Attributes:
        model: see `ModelTask`; its output are logits (B, labels).
        label_smoothing: see `sigmoid_cross_entropy`.
    """

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = (
        "mean_average_precision",
        "max",
    )
    needs: ClassVar[Needs] = Needs(labels=True, multi_label=True)

    @classmethod
    def from_config(
        cls,
        config: TrainClassifier | TrainCNN,
        info: DataInfo,
        optimizer: optax.GradientTransformation,
    ) -> "MultiLabelClassification":
        """Build the task that a config describes.

        Raises:
            InputError: the config weighs classes, which have one label an image, or see
                `Classification`.
        """
        for name, none in (("class_weights", "none"), ("focal_gamma", 0)):
            if (value := getattr(config, name)) != none:
                raise InputError(
                    f"{name} is {value!r}; it must be {none} with {config.data.name}, which has "
                    "several labels an image"
                )
        task = super().from_config(config, info, optimizer)
        assert isinstance(task, MultiLabelClassification)
        return task

    def examples(
        self, output: Float[Array, "batch labels"], endpoints: dict[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " batch"]]:
        """Compute the loss of each image, and whether all its labels are right.

        Args:
            output: (B, labels) logits.
            endpoints: not used.
            batch: `label` (B, labels) bool; of mixed images also `label_other` (B, labels) and
                `label_weight` (B,), see `augment.mixing.mix`.

        Returns:
            `loss`, of a mixed image the weighted sum of both; and `accuracy`, 1 where exactly the
            labels there (of a mixed image, those of the greater weight) have a probability of 0.5
            or more, as scikit-learn's `accuracy_score`. (B,) each.
        """
        label, other = batch["label"], batch.get("label_other")
        losses = self._losses(output, label)
        if other is not None:
            weight = batch["label_weight"]
            losses = weight * losses + (1 - weight) * self._losses(output, other)
            label = jnp.where(weight[:, None] >= 0.5, label, other)
        return {"loss": losses, "accuracy": _all_right(output, label)}

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Count how often each label has which logit, where it is there and where it is not.

        Args:
            state: the state.
            batch: `image`, `label` (B, labels) and `mask`; masked examples do not count.

        Returns:
            `loss`, `accuracy` (see `examples`) and `label_counts` (labels, bins, 2) int32: images
            without and with the label by its logit, low ones first, those of probability 0.5 and
            more in the upper half of the bins.
        """
        logits, label, mask = self.logits(state, batch["image"]), batch["label"], batch["mask"]
        labels = logits.shape[-1]
        counts = jnp.zeros((labels, _BINS, 2), jnp.int32)
        place = (jnp.arange(labels)[None], _bin(logits), label.astype(jnp.int32))
        counts = counts.at[place].add(mask[:, None].astype(jnp.int32))
        return {
            "loss": masked_sum(self._losses(logits, label), mask),
            "accuracy": masked_sum(_all_right(logits, label), mask),
            "label_counts": jax.lax.psum(counts, AXIS),
        }

    def _losses(
        self, logits: Float[Array, "batch labels"], label: Bool[Array, "batch labels"]
    ) -> Float[Array, " batch"]:
        return sigmoid_cross_entropy(logits, label, label_smoothing=self.label_smoothing)


def _all_right(
    logits: Float[Array, "batch labels"], label: Bool[Array, "batch labels"]
) -> Float[Array, " batch"]:
    # NaN is right neither where the label is nor where it is not.
    return jnp.all(jnp.where(label, logits >= 0, logits < 0), -1).astype(jnp.float32)


def _bin(logits: Float[Array, "batch labels"]) -> Int[Array, "batch labels"]:
    scaled = jnp.floor(logits * (_BINS / 2 / _LIMIT)) + _BINS // 2
    return jnp.clip(scaled, 0, _BINS - 1).astype(jnp.int32)
