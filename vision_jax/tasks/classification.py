"""Image classification: softmax cross-entropy on labels."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from vision_jax.augment.color import normalize
from vision_jax.data.loader import Batch
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.base import Metrics, Needs, TrainState, accumulate, masked_sum, rematerialize

# What a key is folded with, one number per use of it.
_INIT, _DROPOUT = 0, 1


@dataclasses.dataclass(frozen=True)
class Classification:
    """A classifier's state, loss and steps.

    See `Task` for how its steps are run.

    Attributes:
        model: a linen module that returns (logits, endpoints).
        optimizer: the update rule.
        label_smoothing: probability spread evenly over the classes (Szegedy et al., 2016).
        mean: subtracted from the images, one value or one per channel.
        std: divides the images after that.
        accumulate: parts of a device's batch that are computed one after the other; their
            gradients add up to the whole batch's, in less memory. None: what suits the platform.
        ema: decay of the moving average of the weights that evaluation takes, see
            `TrainState.averaged`; 0 for none.
        remat: whether the backward pass computes again what lies within the network's stages,
            see `rematerialize`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    label_smoothing: float = 0.0
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    accumulate: int | None = None
    ema: float = 0.0
    remat: bool = False

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = ("accuracy", "max")
    needs: ClassVar[Needs] = Needs(labels=True)

    def init(self, key: Key[Array, ""], batch: Batch) -> TrainState:
        """The state before the first step.

        Args:
            key: the run's base key.
            batch: any batch, for the shape of its `image`.

        Returns:
            A state at step 0.
        """
        images = self._normalize(batch["image"][:1])
        variables = self.model.init(jax.random.fold_in(key, _INIT), images)
        state = TrainState.create(key, variables, self.optimizer)
        return state.replace(average=state.variables if self.ema else {})

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Moves the weights along one batch's gradient.

        Args:
            state: the state before.
            batch: `image` (B, H, W, C) float32 in [0, 1], `label` (B,) and `mask` (B,); of mixed
                images also `label_other` (B,) and `label_weight` (B,), see `mixing.mix`.

        Returns:
            The state after, and the metrics `loss` and `accuracy` over all devices and those of
            `TrainState.apply_gradients`. The loss of a mixed image is that of its two labels,
            weighted; it counts as right if the label of the greater weight comes first.
        """
        key = jax.random.fold_in(state.step_key(), _DROPOUT)
        count = jax.lax.psum(jnp.sum(batch["mask"].astype(jnp.float32)), AXIS)

        def gradients(stats: Any, part: Batch, place: Array) -> tuple[Any, Metrics, Any]:
            mask, rngs = part["mask"], {"dropout": jax.random.fold_in(key, place)}

            def loss_fn(params: Any) -> tuple[Array, tuple[Array, Array, Any]]:
                (logits, _), updates = self.model.apply(
                    {"params": params, "batch_stats": stats},
                    self._normalize(part["image"]),
                    train=True,
                    rngs=rngs,
                    mutable=["batch_stats"],
                )
                losses = self._mixed_losses(logits, part)
                mean = jnp.sum(jnp.where(mask, losses, jnp.float32(0))) / count
                return mean, (losses, logits, updates.get("batch_stats", {}))

            grads, (losses, logits, new) = jax.grad(
                rematerialize(loss_fn, self.remat), has_aux=True
            )(state.params)
            hits = jnp.argmax(logits, -1) == _dominant_label(part)
            figures = {"loss": masked_sum(losses, mask), "accuracy": masked_sum(hits, mask)}
            return grads, figures, new

        grads, metrics, stats = accumulate(gradients, state.stats, batch, self.accumulate)
        state, moved = state.apply_gradients(grads, stats, self.optimizer)
        return state.averaged(state.variables, self.ema), metrics | moved

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Counts right and wrong answers.

        Args:
            state: the state.
            batch: as for `train_step`; masked examples do not count.

        Returns:
            `loss`, `accuracy` (top-1), `top5_accuracy` where there are more than five classes, and
            `confusion` (classes, classes) int32: rows are true classes, columns predicted ones.
        """
        logits = self.logits(state, batch["image"])
        label, mask = batch["label"], batch["mask"]
        classes = logits.shape[-1]
        # The label's rank: how many classes score higher, the lower class first among equals.
        own = jnp.take_along_axis(logits, label[:, None], -1)
        before = jnp.arange(classes, dtype=label.dtype)[None] < label[:, None]
        rank = jnp.sum((logits > own) | ((logits == own) & before), -1)
        cells = jnp.zeros((classes, classes), jnp.int32)
        cells = cells.at[label, jnp.argmax(logits, -1)].add(mask.astype(jnp.int32))
        metrics = {
            "loss": masked_sum(self._losses(logits, label), mask),
            "accuracy": masked_sum(rank < 1, mask),
            "confusion": jax.lax.psum(cells, AXIS),
        }
        if classes > 5:
            metrics["top5_accuracy"] = masked_sum(rank < 5, mask)
        return metrics

    def logits(
        self, state: TrainState, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        """The network's output.

        Args:
            state: the state.
            images: (B, H, W, C) float32 in [0, 1].

        Returns:
            (B, classes) logits.
        """
        return self._apply(state, images)[0]

    def embed(
        self, state: TrainState, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch features"]:
        """The features that search uses.

        Args:
            state: the state.
            images: (B, H, W, C) float32 in [0, 1].

        Returns:
            (B, D) the model's `embedding` endpoint.
        """
        return self._apply(state, images)[1]["embedding"]

    def _apply(self, state: TrainState, images: Array) -> Any:
        return self.model.apply(
            state.average or state.variables, self._normalize(images), train=False
        )

    def _normalize(self, images: Array) -> Array:
        return normalize(images, self.mean, self.std)

    def _mixed_losses(
        self, logits: Float[Array, "batch classes"], batch: Batch
    ) -> Float[Array, " batch"]:
        losses = self._losses(logits, batch["label"])
        if "label_weight" not in batch:
            return losses
        weight = batch["label_weight"]
        return weight * losses + (1 - weight) * self._losses(logits, batch["label_other"])

    def _losses(
        self, logits: Float[Array, "batch classes"], label: Int[Array, " batch"]
    ) -> Float[Array, " batch"]:
        if self.label_smoothing == 0:
            return optax.softmax_cross_entropy_with_integer_labels(logits, label)
        targets = optax.smooth_labels(jax.nn.one_hot(label, logits.shape[-1]), self.label_smoothing)
        return optax.softmax_cross_entropy(logits, targets)


def _dominant_label(batch: Batch) -> Int[Array, " batch"]:
    if "label_weight" not in batch:
        return batch["label"]
    return jnp.where(batch["label_weight"] >= 0.5, batch["label"], batch["label_other"])
