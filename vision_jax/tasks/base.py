"""What tasks share: the state of a run, its random numbers, and how a step reduces over devices."""

from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from vision_jax.data.loader import Batch

Metrics = dict[str, Any]
"""Named figures that merge by addition: `(total, count)` for a mean, or an array of counts."""

AXIS = "batch"
"""The axis that a step's batch is spread over; `training.parallel` binds it to devices."""


class TrainState(flax.struct.PyTreeNode):
    """What a step reads and returns.

    Attributes:
        step: () int32, steps done.
        key: the run's base key; never changes.
        params: the network's parameters.
        stats: the network's batch statistics; empty without batch norm.
        opt_state: the optimiser's state.
    """

    # Tree transformations put shapes, shardings and the like where the arrays are.
    step: Any
    key: Any
    params: Any
    stats: Any
    opt_state: Any

    @classmethod
    def create(
        cls, key: Key[Array, ""], variables: Any, optimizer: optax.GradientTransformation
    ) -> "TrainState":
        """The state before the first step.

        Args:
            key: the run's base key.
            variables: what `model.init` returned.
            optimizer: the update rule.
        """
        return cls(
            step=jnp.zeros((), jnp.int32),
            key=key,
            params=variables["params"],
            stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(variables["params"]),
        )

    @property
    def variables(self) -> dict[str, Any]:
        """The collections that `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.stats}

    def step_key(self) -> Key[Array, ""]:
        """This step's key, the same on every device.

        A resumed run draws the numbers of an uninterrupted one, since the key depends on the step
        alone.
        """
        return jax.random.fold_in(self.key, self.step)

    def apply_gradients(
        self, grads: Any, stats: Any, optimizer: optax.GradientTransformation
    ) -> "TrainState":
        """The state after one update.

        Args:
            grads: this device's part of the gradient of the loss over the whole batch.
            stats: this device's new batch statistics.
            optimizer: the update rule.
        """
        grads = jax.lax.psum(grads, AXIS)
        # optax mixes dtypes on purpose, such as a float to the power of an integer step.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, self.opt_state, self.params)
        return self.replace(
            step=self.step + 1,
            params=optax.apply_updates(self.params, updates),
            stats=jax.lax.pmean(stats, AXIS),
            opt_state=opt_state,
        )


@runtime_checkable
class Task(Protocol):
    """What is trained. Every method is pure.

    The steps run against the axis `"batch"`: bind it with `training.parallel`, or with
    `jax.vmap(step, axis_name="batch")`.

    Attributes:
        best_metric: the validation metric that chooses the best checkpoint, and `max` or `min`;
            None if none can, and the last is the best.
    """

    best_metric: ClassVar[tuple[str, Literal["max", "min"]] | None]

    def init(self, key: Key[Array, ""], batch: Batch) -> TrainState:
        """The state before the first step."""

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Moves the weights along one batch's gradient."""

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Figures of one batch."""

    def embed(self, state: TrainState, images: Array) -> Array:
        """The features that search uses."""


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
