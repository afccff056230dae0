"""Image classification: softmax cross-entropy on labels."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from vision_jax.config import TrainClassifier, TrainCNN
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Batch
from vision_jax.errors import InputError
from vision_jax.losses.classification import softmax_cross_entropy, weigh_classes
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.backbone import configured_model
from vision_jax.tasks.base import ModelTask, Needs, masked_sum
from vision_jax.tasks.state import Metrics, TrainState

_NAMED = 8  # classes in a message


@dataclasses.dataclass(frozen=True)
class Classification(ModelTask):
    """A classifier's loss and metrics.

    Attributes:
        model: see `ModelTask`; its output are logits (B, classes).
        label_smoothing: see `softmax_cross_entropy`.
        gamma: see `softmax_cross_entropy`.
        class_weights: of each class in the loss; None for 1 each. The loss of a batch is the mean
            over its images, which does not divide by their weights.
    """

    label_smoothing: float = 0.0
    gamma: float = dataclasses.field(default=0.0, kw_only=True)
    class_weights: tuple[float, ...] | None = dataclasses.field(default=None, kw_only=True)

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = ("accuracy", "max")
    needs: ClassVar[Needs] = Needs(labels=True)

    @classmethod
    def from_config(
        cls,
        config: TrainClassifier | TrainCNN,
        info: DataInfo,
        optimizer: optax.GradientTransformation,
    ) -> "Classification":
        """Build the task that a config describes.

        Raises:
            InputError: the data has no labels, or the model is unknown or no classifier.
        """
        if info.label_names is None:
            raise InputError(f"{config.data.name} has no labels; a classifier needs them")
        return cls(
            configured_model(config, len(info.label_names)),
            optimizer,
            config.label_smoothing,
            gamma=config.focal_gamma,
            class_weights=_class_weights(config, info),
            **config.step_options,
        )

    def examples(
        self, output: Float[Array, "batch classes"], endpoints: dict[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " batch"]]:
        """Compute the loss of each image, and whether its class is recognised.

        Args:
            output: (B, classes) logits.
            endpoints: not used.
            batch: `label` (B,); of mixed images also `label_other` (B,) and `label_weight` (B,),
                see `augment.mixing.mix`.

        Returns:
            `loss` and `accuracy`, (B,) each. The loss of a mixed image is the weighted sum of those
            of its two labels; it counts as right if the label of the greater weight comes first.
        """
        label, other = batch["label"], batch.get("label_other")
        losses = self._loss(output, label)
        if other is not None:
            weight = batch["label_weight"]
            losses = weight * losses + (1 - weight) * self._loss(output, other)
            label = jnp.where(weight >= 0.5, label, other)
        right = jnp.argmax(output, -1) == label
        return {"loss": losses, "accuracy": right.astype(jnp.float32)}

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Count right and wrong answers.

        Args:
            state: the state.
            batch: `image`, `label` and `mask`; masked examples do not count.

        Returns:
            `loss`, `accuracy` (top-1), `top5_accuracy` where there are more than five classes, and
            `confusion` (classes, classes) int32: rows are true classes, columns predicted ones.
        """
        logits = self.logits(state, batch["image"])
        label, mask = batch["label"], batch["mask"]
        classes = logits.shape[-1]
        rank = _rank(logits, label)
        losses = self._loss(logits, label)
        cells = jnp.zeros((classes, classes), jnp.int32)
        cells = cells.at[label, jnp.argmax(logits, -1)].add(mask.astype(jnp.int32))
        metrics = {
            "loss": masked_sum(losses, mask),
            "accuracy": masked_sum(rank < 1, mask),
            "confusion": jax.lax.psum(cells, AXIS),
        }
        if classes > 5:
            metrics["top5_accuracy"] = masked_sum(rank < 5, mask)
        return metrics

    def logits(
        self, state: TrainState, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        """Score each class.

        Args:
            state: the state.
            images: (B, H, W, C) float32 in [0, 1].

        Returns:
            (B, classes) logits.
        """
        output: Any = self.apply(state, images)[0]
        return output

    def _loss(
        self, logits: Float[Array, "batch classes"], label: Int[Array, " batch"]
    ) -> Float[Array, " batch"]:
        weights = self.class_weights
        return softmax_cross_entropy(
            logits,
            label,
            label_smoothing=self.label_smoothing,
            gamma=self.gamma,
            class_weights=None if weights is None else jnp.array(weights, jnp.float32),
        )


def _class_weights(config: TrainClassifier | TrainCNN, info: DataInfo) -> tuple[float, ...] | None:
    """Compute the weight of each class in the loss; None for 1 each.

    Raises:
        InputError: a class is not among those of the data.
    """
    names, given = info.label_names or (), config.class_weights
    if isinstance(given, dict):
        if unknown := sorted(given.keys() - set(names)):
            raise InputError(
                f"class_weights names {', '.join(unknown[:_NAMED])}; it must name classes of "
                f"{config.data.name}: {', '.join(names[:_NAMED])}"
                + (", …" if len(names) > _NAMED else "")
            )
        return tuple(float(given.get(name, 1)) for name in names)
    if given == "none":
        return None
    assert info.class_counts is not None  # see `counts_classes`
    weights = weigh_classes(np.array(info.class_counts), given, beta=config.effective_beta)
    return tuple(weights.tolist())


def _rank(logits: Float[Array, "batch classes"], label: Int[Array, " batch"]) -> Array:
    """How many classes come before the label: all that do not score lower, as NaN never does.

    Among equals the lower class comes first.
    """
    own = jnp.take_along_axis(logits, label[:, None], -1)
    after = jnp.arange(logits.shape[-1], dtype=label.dtype)[None] >= label[:, None]
    return jnp.sum(~((logits < own) | ((logits == own) & after)), -1)
