"""Learning without labels: embeddings that agree on random views of an image."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision_jax.config import SelfSupervisedMethod, TrainSelfSupervised
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Batch
from vision_jax.losses.contrastive import (
    barlow_twins,
    dino,
    dino_centre,
    prediction,
    supervised_contrastive,
    vicreg,
)
from vision_jax.losses.pairs import unit
from vision_jax.models.embedder import Embedder
from vision_jax.tasks.backbone import configured_model
from vision_jax.tasks.base import Needs, gather
from vision_jax.tasks.embedding import EmbeddingTask, first_row, loss_options
from vision_jax.tasks.state import TrainState

LOSSES: dict[SelfSupervisedMethod, Any] = {
    "simclr": supervised_contrastive,
    "vicreg": vicreg,
    "barlow_twins": barlow_twins,
    "byol": prediction,
    "simsiam": prediction,
    "dino": dino,
}
"""The loss of each method."""

_CENTRE = "centre"
_PREDICTOR = 4
"""Times that a predictor's hidden layer is narrower than the projection, as SimSiam's."""


@dataclasses.dataclass(frozen=True)
class SelfSupervised(EmbeddingTask):
    """An embedding trained by views of images.

    Attributes:
        model: an `Embedder` with a projector; for BYOL and SimSiam with a predictor too.
        method: a key of `LOSSES`.
        options: of the loss.
        views: of each image.

    The teacher of BYOL and DINO is the moving average of the weights, whose decay is `ema`.
    """

    method: SelfSupervisedMethod = "simclr"
    options: tuple[tuple[str, Any], ...] = ()
    views: int = 2

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = None

    @property
    def needs(self) -> Needs:  # type: ignore[override]  # the number of views is the user's
        """Views of each image, the whole batch, whose images are compared, and the teacher."""
        return Needs(views=self.views, whole_batch=True, average=self._has_teacher)

    @property
    def _has_teacher(self) -> bool:
        return self.method in ("byol", "dino")

    @classmethod
    def from_config(
        cls, config: TrainSelfSupervised, info: DataInfo, optimizer: optax.GradientTransformation
    ) -> "SelfSupervised":
        """Build the task that a config describes.

        Raises:
            InputError: the model is unknown or no classifier, or the loss has no such option.
        """
        predicts = config.method in ("byol", "simsiam")
        model = Embedder(
            configured_model(config, 0),
            width=config.width,
            projector=config.projector,
            predictor=(max(config.projector[-1] // _PREDICTOR, 1),) if predicts else (),
            dtype=config.precision,
        )
        options = loss_options(LOSSES[config.method], config.loss_options)
        given = config.step_options | ({"ema": config.teacher} if config.teaches else {})
        return cls(
            model, optimizer, config.method, tuple(sorted(options.items())), config.views, **given
        )

    def nothing_remembered(self) -> dict[str, Any]:
        """Return DINO's centre, which is 0 at first."""
        if self.method != "dino":
            return {}
        return {_CENTRE: jnp.zeros(self.model.projector[-1:], jnp.float32)}

    def context(self, state: TrainState, batch: Batch) -> Batch:
        """Compute the teacher's projections of the views, `targets` (B, V, P)."""
        held = {_CENTRE: state.stats[_CENTRE]} if self.method == "dino" else {}
        if not self._has_teacher:
            return held
        views = batch["views"]
        flat = views.reshape(-1, *views.shape[2:])
        targets: Any = self.model.apply(state.average, flat, train=False)[0]
        return held | {"targets": targets.reshape(*views.shape[:2], -1)}

    def remember(self, stats: Any, output: Any, endpoints: dict[str, Array], batch: Batch) -> Any:
        """Move DINO's centre towards the teacher's mean."""
        if self.method != "dino":
            return stats
        targets, mask = gather((batch["targets"], batch["mask"]))
        return {**stats, _CENTRE: dino_centre(batch[_CENTRE], targets, mask=mask)}

    def examples(
        self, output: Float[Array, "batch views dim"], endpoints: dict[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " batch"]]:
        """Compute each image's loss.

        Args:
            output: (B, V, P) the views' projections.
            endpoints: `embedding` (B, V, D) and, for BYOL and SimSiam, `prediction` (B, V, P).
            batch: `mask` (B,); `targets` of a teacher.

        Returns:
            `loss`, and `view_alignment`, the mean squared distance of two views' embeddings, in
            [0, 4]; (B,) each.
        """
        first, second = unit(endpoints["embedding"][:, 0]), unit(endpoints["embedding"][:, 1])
        rows = {"view_alignment": jnp.sum(jnp.square(first - second), -1)}
        return {"loss": self._losses(output, endpoints, batch), **rows}

    def _losses(
        self, output: Float[Array, "batch views dim"], endpoints: dict[str, Array], batch: Batch
    ) -> Float[Array, " batch"]:
        options = dict(self.options)
        if self.method == "simclr":
            return self._simclr(output, batch, options)
        if self.method == "dino":
            return dino(output, batch["targets"], batch[_CENTRE], **options)
        if self.method in ("byol", "simsiam"):
            return prediction(endpoints["prediction"], batch.get("targets", output))
        views, mask = gather((output, batch["mask"]))
        whole = LOSSES[self.method](views[:, 0], views[:, 1], mask=mask, **options)
        return jnp.broadcast_to(whole, batch["mask"].shape)

    def _simclr(
        self, output: Float[Array, "batch views dim"], batch: Batch, options: dict[str, Any]
    ) -> Float[Array, " batch"]:
        """NT-Xent: the label of a view is its image's place in the whole batch."""
        count, views, width = output.shape
        flat, mask = output.reshape(-1, width), jnp.repeat(batch["mask"], views)
        labels = jnp.repeat(first_row(batch["mask"]) + jnp.arange(count, dtype=jnp.int32), views)
        references = gather((flat, labels, mask))
        losses = supervised_contrastive(
            flat, labels, *references[:2], mask=references[2], first=first_row(flat), **options
        )
        return losses.reshape(count, views).mean(1)
