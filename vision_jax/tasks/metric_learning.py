"""Metric learning: images of a class together, those of other classes apart."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision_jax.config import MetricLoss, TrainMetric
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Batch
from vision_jax.errors import InputError
from vision_jax.losses.contrastive import supervised_contrastive
from vision_jax.losses.metric import (
    margin_softmax,
    multi_similarity,
    proxy_anchor,
    smooth_ap,
    triplet,
)
from vision_jax.losses.pairs import unit
from vision_jax.models.embedder import Embedder
from vision_jax.tasks.backbone import configured_model
from vision_jax.tasks.base import Needs, gather
from vision_jax.tasks.embedding import EmbeddingTask, embedding_width, first_row, loss_options
from vision_jax.tasks.state import TrainState

LOSSES: dict[MetricLoss, Callable[..., Array]] = {
    "proxy_anchor": proxy_anchor,
    "arcface": partial(margin_softmax, angular_margin=0.5),
    "cosface": partial(margin_softmax, cosine_margin=0.35),
    "norm_softmax": partial(margin_softmax, scale=20.0),
    "contrastive": supervised_contrastive,
    "multi_similarity": multi_similarity,
    "triplet": triplet,
    "smooth_ap": smooth_ap,
}
"""The losses by name, with the settings of their papers."""

_VECTORS, _LABELS = "memory_vectors", "memory_labels"


@dataclasses.dataclass(frozen=True)
class MetricLearning(EmbeddingTask):
    """An embedding trained by labels.

    A loss of pairs compares each image with all of the batch, on whatever device they are, and with
    the memory: the embeddings of the last batches (Wang et al., "Cross-batch memory for embedding
    learning", 2020).

    Attributes:
        model: an `Embedder`; with `centres` for the losses that have some.
        loss: a key of `LOSSES`.
        options: of the loss.
        memory: how many embeddings it holds, and their width; None for none.
    """

    loss: MetricLoss = "proxy_anchor"
    options: tuple[tuple[str, Any], ...] = ()
    memory: tuple[int, int] | None = None

    needs: ClassVar[Needs] = Needs(labels=True, whole_batch=True)

    @classmethod
    def from_config(
        cls, config: TrainMetric, info: DataInfo, optimizer: optax.GradientTransformation
    ) -> "MetricLearning":
        """Build the task that a config describes.

        Raises:
            InputError: the data has no labels, the model is unknown or no classifier, or the loss
                has no such option.
        """
        if info.label_names is None:
            raise InputError(f"{config.data.name} has no labels; metric learning needs them")
        centres: tuple[int, ...] = ()
        if not config.compares_pairs:
            centres = (len(info.label_names),)
            centres += (config.sub_centres,) if config.sub_centres > 1 else ()
        model = Embedder(
            configured_model(config, 0),
            width=config.width,
            centres=centres,
            dtype=config.precision,
        )
        options = loss_options(LOSSES[config.loss], config.loss_options)
        return cls(
            model,
            optimizer,
            config.loss,
            tuple(sorted(options.items())),
            (config.memory, embedding_width(model, info)) if config.memory else None,
            **config.step_options,
        )

    def nothing_remembered(self) -> dict[str, Any]:
        """Return an empty memory: its labels are -1."""
        if not self.memory:
            return {}
        labels = jnp.full(self.memory[:1], -1, jnp.float32)
        return {_VECTORS: jnp.zeros(self.memory, jnp.float32), _LABELS: labels}

    def context(self, state: TrainState, batch: Batch) -> Batch:
        """Hand the memory to the loss."""
        return {name: state.stats[name] for name in (_VECTORS, _LABELS)} if self.memory else {}

    def remember(self, stats: Any, output: Any, endpoints: dict[str, Array], batch: Batch) -> Any:
        """Put the batch of all devices before what is in the memory."""
        if not self.memory:
            return stats
        labels = jnp.where(batch["mask"], batch["label"], -1).astype(jnp.float32)
        new = gather({_VECTORS: jax.lax.stop_gradient(unit(output)), _LABELS: labels})
        held = {name: jnp.concatenate([new[name], batch[name]])[: self.memory[0]] for name in new}
        return {**stats, **held}

    def examples(
        self, output: Float[Array, "batch dim"], endpoints: dict[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " batch"]]:
        """Compute each image's loss.

        Args:
            output: (B, D) what is compared, of any length.
            endpoints: `centres`, for the losses that have some.
            batch: `label` and `mask` (B,), and the memory.

        Returns:
            `loss` (B,); that of `proxy_anchor`, which belongs to the whole batch, for each.
        """
        loss, label = partial(LOSSES[self.loss], **dict(self.options)), batch["label"]
        if self.loss == "proxy_anchor":
            vectors, labels, mask = gather((output, label, batch["mask"]))
            whole = loss(vectors, labels, endpoints["centres"], mask=mask)
            return {"loss": jnp.broadcast_to(whole, label.shape)}
        if "centres" in endpoints:
            return {"loss": loss(output, label, endpoints["centres"])}
        vectors, labels, mask = gather((output, label, batch["mask"]))
        if self.memory:
            held = batch[_LABELS]
            vectors = jnp.concatenate([vectors, batch[_VECTORS]])
            labels = jnp.concatenate([labels, held.astype(labels.dtype)])
            mask = jnp.concatenate([mask, held >= 0])
        return {"loss": loss(output, label, vectors, labels, mask=mask, first=first_row(label))}
