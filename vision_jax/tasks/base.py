"""What tasks are and can do, and all that tasks of one model share."""

import abc
import dataclasses
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Key

from vision_jax.data.loader import Batch
from vision_jax.errors import InputError
from vision_jax.models import layers
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks import stages
from vision_jax.tasks.accumulation import accumulate, rematerialize
from vision_jax.tasks.state import Metrics, TrainState

# What a key is folded with, one number per use of it.
_INIT, _STREAMS = 0, 1


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a task needs of its batches.

    Attributes:
        labels: every image has a label.
        multi_label: an image may have any number of labels instead.
        views: how many augmented views of each image a training batch holds; 0 for none.
        whole_batch: the loss compares the examples of a batch with each other, so that a device's
            batch must not be split; see `gather` for those of other devices.
        average: the training step reads the moving average of the weights, which must then be whole
            on every device.
    """

    labels: bool = False
    multi_label: bool = dataclasses.field(default=False, kw_only=True)
    views: int = 0
    whole_batch: bool = False
    average: bool = dataclasses.field(default=False, kw_only=True)


@runtime_checkable
class Task(Protocol):
    """What is trained. Every method is pure.

    The steps run against the axis `parallel.devices.AXIS`: bind it with `training.steps`, or with
    `jax.vmap(step, axis_name="batch")`; with `jax.shard_map` only by `check_vma=False`, since steps
    add up gradients over the devices themselves.

    Attributes:
        best_metric: the validation metric that chooses the best checkpoint, and `max` or `min`;
            None if none can, and the last is the best.
        needs: what it needs of its batches.
    """

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None]
    needs: ClassVar[Needs]

    def init(self, key: Key[Array, ""], batch: Batch) -> TrainState:
        """Make the state before the first step."""

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Move the weights along one batch's gradient."""

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Measure one batch."""

    def apply(self, state: TrainState, images: Array) -> tuple[Any, dict[str, Array]]:
        """Run the network that embeds images for evaluation: its output and its endpoints."""

    def embed(self, state: TrainState, images: Array) -> Array:
        """Compute the features that search uses."""


@runtime_checkable
class Classifies(Protocol):
    """A task whose model tells classes apart."""

    def logits(self, state: TrainState, images: Array) -> Array:
        """Score each class for images (B, H, W, C) in [0, 1]: (B, classes)."""


@runtime_checkable
class Decodes(Protocol):
    """A task that turns codes into images."""

    def decode(self, state: TrainState, codes: Array) -> Array:
        """Turn codes (B, D) into images (B, H, W, C) in [0, 1]."""


@runtime_checkable
class Reconstructs(Decodes, Protocol):
    """A task that encodes images and decodes them again; its codes are what `embed` returns."""

    def reconstruct(self, state: TrainState, images: Array) -> Array:
        """Encode and decode images (B, H, W, C) in [0, 1]."""


@runtime_checkable
class Generates(Decodes, Protocol):
    """A task that makes new images of latents from the standard normal.

    Attributes:
        latent_size: width of the latents that `decode` takes.
    """

    @property
    def latent_size(self) -> int:
        """Width of the latents."""


@runtime_checkable
class Judges(Protocol):
    """A task judged by the embeddings of a whole set, which its `eval_step` returns by batches.

    The step returns `embedding` (B, D), `mask` (B,) and, with labels, `label` (B,), of all devices.

    Attributes:
        judged: the figures of `judge` that tell better weights from worse, given labels.
    """

    judged: ClassVar[tuple[str, ...]]

    def judge(self, vectors: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
        """Measure embeddings (N, D) and labels (N,)."""

    def collapsed(self, figures: dict[str, float]) -> str | None:
        """Say in which way the embeddings of `judge` have collapsed; None if they have not."""


@dataclasses.dataclass(frozen=True)
class ModelTask(abc.ABC):
    """A task that trains one model: all of it but the loss, which subclasses write.

    Attributes:
        model: a linen module, images in, `(output, endpoints)` out, with the endpoint `embedding`.
        optimizer: the update rule.
        accumulate: parts of a device's batch that are computed one after the other; their
            gradients add up to the whole batch's, in less memory. None: what suits the platform.
        ema: decay of the moving average of the weights that evaluation uses, see
            `TrainState.averaged`; 0 for none.
        remat: whether the backward pass recomputes what lies within the model's stages, see
            `rematerialize`.
        frozen: paths of the parameters that do not train, see `stages.stage_depths`. They cost no
            backward pass and no optimizer state.
        fixed_statistics: whether batch norm uses its running statistics in training too, and leaves
            them as they are.
        statistics_per_device: whether batch norm in training sees the images of one device, see
            `layers.statistics_per_device`. The running statistics are the mean over the devices'.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    accumulate: int | None = dataclasses.field(default=None, kw_only=True)
    ema: float = dataclasses.field(default=0.0, kw_only=True)
    remat: bool = dataclasses.field(default=False, kw_only=True)
    frozen: frozenset[str] = dataclasses.field(default=frozenset(), kw_only=True)
    fixed_statistics: bool = dataclasses.field(default=False, kw_only=True)
    statistics_per_device: bool = dataclasses.field(default=False, kw_only=True)

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None] = ("loss", "min")
    needs: ClassVar[Needs] = Needs()
    streams: ClassVar[tuple[str, ...]] = ("dropout",)
    """Names of the random streams that the model draws from in training."""

    def __post_init__(self) -> None:
        if self.needs.whole_batch and self.accumulate not in (None, 1):
            raise InputError(
                f"accumulate is {self.accumulate}; it must be 1 with {type(self).__name__}, whose "
                "loss compares the examples of a batch"
            )

    @abc.abstractmethod
    def examples(
        self, output: Any, endpoints: dict[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " batch"]]:
        """Write the loss over a batch.

        Args:
            output: what the model returned; with views its leading axes are (B, V).
            endpoints: the model's endpoints, likewise.
            batch: `image` (B, H, W, C) float32 in [0, 1], `mask` (B,) and what the task needs.

        Returns:
            `loss` and other metrics of each example, (B,) each. What is minimised is the mean loss
            over the unmasked examples of all devices.
        """

    def context(self, state: TrainState, batch: Batch) -> Batch:
        """Compute what the loss needs beside the batch, and gets no gradient: none by default.

        Args:
            state: the state before the step.
            batch: see `examples`.

        Returns:
            Arrays that the batch of `examples` then holds too, (B, ...) each if batches are split.
        """
        del state, batch
        return {}

    def remember(self, stats: Any, output: Any, endpoints: dict[str, Array], batch: Batch) -> Any:
        """Add to the batch statistics what the next step's `context` needs: nothing by default.

        Args:
            stats: the model's new batch statistics.
            output: as for `examples`.
            endpoints: as for `examples`.
            batch: as for `examples`.

        Returns:
            The statistics; what is added is float32, the same on every device, and of the names and
            shapes of `nothing_remembered`.
        """
        del output, endpoints, batch
        return stats

    def nothing_remembered(self) -> dict[str, Any]:
        """Return what `remember` adds, as it is before the first step."""
        return {}

    def init(self, key: Key[Array, ""], batch: Batch) -> TrainState:
        """Make the state before the first step.

        Args:
            key: the run's base key.
            batch: any batch, for the shape of its `image`.

        Returns:
            A state at step 0.

        Raises:
            ValueError: the model does not take images of this shape.
        """
        variables = self.model.init(jax.random.fold_in(key, _INIT), batch["image"][:1])
        return self.begin(key, variables)

    def begin(self, key: Key[Array, ""], variables: Any) -> TrainState:
        """Make the state before the first step, of weights that are there already.

        Args:
            key: the run's base key.
            variables: the model's collections, `params` and `batch_stats`.

        Returns:
            A state at step 0.
        """
        trained, frozen = stages.split(variables["params"], self.frozen)
        state = TrainState.create(key, {**variables, "params": trained}, self.optimizer)
        state = state.replace(
            params=stages.merge(trained, frozen), stats={**state.stats, **self.nothing_remembered()}
        )
        return state.replace(average=state.variables if self.ema else {})

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Move the weights along one batch's gradient.

        Args:
            state: the state before.
            batch: see `examples`.

        Returns:
            The state after, and the mean over all devices of the metrics of `examples`, with those
            of `TrainState.apply_gradients`.
        """
        key = jax.random.fold_in(state.step_key(), _STREAMS)
        count = jax.lax.psum(jnp.sum(batch["mask"].astype(jnp.float32)), AXIS)
        trained, frozen = stages.split(state.params, self.frozen)
        fixed, moving = (state.stats, {}) if self.fixed_statistics else ({}, state.stats)
        batch = batch | self.context(state, batch)

        def gradients(stats: Any, part: Batch, place: Array) -> tuple[Any, Metrics, Any]:
            mask, rngs = part["mask"], self._rngs(jax.random.fold_in(key, place))

            def loss_fn(trained: Any) -> tuple[Array, tuple[dict[str, Array], Any]]:
                params = stages.merge(trained, frozen)
                output, endpoints, new = self._forward(params, fixed or stats, part, rngs)
                new = self.remember(new, output, endpoints, part)
                rows = self.examples(output, endpoints, part)
                mean = jnp.sum(jnp.where(mask, rows["loss"], jnp.float32(0))) / count
                return mean, (rows, new)

            grads, (rows, new) = jax.grad(rematerialize(loss_fn, self.remat), has_aux=True)(trained)
            return grads, {name: masked_sum(values, mask) for name, values in rows.items()}, new

        parts = 1 if self.needs.whole_batch else self.accumulate
        grads, metrics, stats = accumulate(gradients, moving, batch, parts)
        after, moved = state.replace(params=trained).apply_gradients(grads, stats, self.optimizer)
        state = after.replace(
            params=stages.merge(after.params, frozen),
            stats={**state.stats, **after.stats} if self.fixed_statistics else after.stats,
        )
        return state.averaged(state.variables, self.ema), metrics | moved

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Measure a batch.

        Args:
            state: the state.
            batch: as for `train_step`, without augmentation; masked examples do not count.

        Returns:
            The mean over all devices of the metrics of `examples`.
        """
        rows = self.examples(*self.apply(state, batch["image"]), batch)
        return {name: masked_sum(values, batch["mask"]) for name, values in rows.items()}

    def embed(
        self, state: TrainState, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch features"]:
        """Compute the features that search uses.

        Args:
            state: the state.
            images: (B, H, W, C) float32 in [0, 1].

        Returns:
            (B, D) the model's `embedding` endpoint.
        """
        return self.apply(state, images)[1]["embedding"]

    def apply(self, state: TrainState, images: Array) -> tuple[Any, dict[str, Array]]:
        """Run the model for evaluation, by the averaged weights if there are any.

        Args:
            state: the state.
            images: (B, H, W, C) float32 in [0, 1].

        Returns:
            The model's output and endpoints.
        """
        variables = state.average or state.variables
        returned: Any = self.model.apply(variables, images, train=False)
        return returned

    def _forward(
        self, params: Any, stats: Any, batch: Batch, rngs: dict[str, Array]
    ) -> tuple[Any, dict[str, Array], Any]:
        """Output, endpoints and new batch statistics in training, of the images or their views."""
        images = batch["views"] if self.needs.views else batch["image"]
        leading = images.shape[:-3]
        with layers.statistics_per_device(self.statistics_per_device):
            (output, endpoints), updates = self.model.apply(
                {"params": params, "batch_stats": stats},
                images.reshape(-1, *images.shape[-3:]),
                train=True,
                rngs=rngs,
                mutable=[] if self.fixed_statistics else ["batch_stats"],
            )
        if self.needs.views:
            output, endpoints = jax.tree.map(
                lambda rows: rows.reshape(*leading, *rows.shape[1:]), (output, endpoints)
            )
        return output, endpoints, updates.get("batch_stats", {})

    def _rngs(self, key: Key[Array, ""]) -> dict[str, Array]:
        # The first stream takes the key itself.
        first, *others = self.streams
        drawn = {name: jax.random.fold_in(key, i) for i, name in enumerate(others, start=1)}
        return {first: key} | drawn


def gather(tree: Any) -> Any:
    """Bring together what each device holds of a batch, for losses that compare its examples.

    Args:
        tree: arrays (B, ...) of this device.

    Returns:
        Arrays (B · devices, ...), the same on every device, in the batch's order; this device's
        begin at B · `jax.lax.axis_index(AXIS)`. Gradients flow back to every device.
    """
    return jax.tree.map(lambda rows: jax.lax.all_gather(rows, AXIS, tiled=True), tree)


def masked_sum(values: Array, mask: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Total and count of the unmasked values over all devices.

    Args:
        values: (B,) figures of this device's examples.
        mask: (B,) False where an example is padding.

    Returns:
        (total, count), each () float32.
    """
    total = jnp.sum(jnp.where(mask, values.astype(jnp.float32), jnp.float32(0)))
    return jax.lax.psum((total, jnp.sum(mask.astype(jnp.float32))), AXIS)
