"""The state of a run: what a step reads and returns."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from vision_jax.parallel.devices import AXIS
from vision_jax.parallel.shards import own_part

Metrics = dict[str, Any]
"""Named figures that merge by addition: `(total, count)` for a mean, or an array of counts."""


class TrainState(flax.struct.PyTreeNode):
    """What a step reads and returns.

    Attributes:
        step: () int32, steps done.
        key: the run's base key; never changes.
        params: the network's parameters.
        stats: the network's batch statistics; empty without batch norm.
        opt_state: the optimizer's state.
        average: moving average of the variables that evaluation takes; empty without averaging. In
            training each device may hold a part of it, see `shards.parts`.
    """

    # Tree transformations put shapes, shardings and the like where the arrays are.
    step: Any
    key: Any
    params: Any
    stats: Any
    opt_state: Any
    average: Any

    @classmethod
    def create(
        cls, key: Key[Array, ""], variables: Any, optimizer: optax.GradientTransformation
    ) -> "TrainState":
        """Make the state before the first step.

        Args:
            key: the run's base key.
            variables: what `model.init` returned.
            optimizer: the update rule.
        """
        # optax mixes dtypes on purpose, such as a float to the power of an integer step.
        with jax.numpy_dtype_promotion("standard"):
            opt_state = optimizer.init(variables["params"])
        return cls(
            step=jnp.zeros((), jnp.int32),
            key=key,
            params=variables["params"],
            stats=variables.get("batch_stats", {}),
            opt_state=opt_state,
            average={},
        )

    @property
    def variables(self) -> dict[str, Any]:
        """The collections that `model.apply` takes in training."""
        return {"params": self.params, "batch_stats": self.stats}

    def step_key(self) -> Key[Array, ""]:
        """Return this step's key, the same on every device.

        A resumed run draws the numbers of an uninterrupted one, since the key depends on the step
        alone.
        """
        return jax.random.fold_in(self.key, self.step)

    def apply_gradients(
        self, grads: Any, stats: Any, optimizer: optax.GradientTransformation
    ) -> tuple["TrainState", Metrics]:
        """Move the parameters.

        Args:
            grads: this device's part of the gradient of the loss over the whole batch.
            stats: this device's new batch statistics.
            optimizer: the update rule.

        Returns:
            The state after one update, and the metrics `gradient_norm` (the Euclidean norm of the
            whole batch's gradient, before any clipping) and, if the optimizer's state holds one,
            the update's `learning_rate`.
        """
        grads = jax.lax.psum(grads, AXIS)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, self.opt_state, self.params)
        state = self.replace(
            step=self.step + 1,
            params=optax.apply_updates(self.params, updates),
            stats=jax.lax.pmean(stats, AXIS),
            opt_state=opt_state,
        )
        figures = {"gradient_norm": optax.tree.norm(grads), "learning_rate": _rate(opt_state)}
        one = jnp.ones((), jnp.float32)
        return state, {name: (value, one) for name, value in figures.items() if value is not None}

    def averaged(self, variables: Any, decay: float) -> "TrainState":
        """Mix the variables of the update just made into the average.

        Args:
            variables: a tree of the average's structure.
            decay: weight of the old average, in [0, 1). It starts at 2/11 and rises as
                (1 + updates) / (10 + updates), so that the first weights are soon forgotten; 0 for
                no average.
        """
        if not decay:
            return self
        updates = self.step.astype(jnp.float32)
        decays = jnp.minimum(jnp.float32(decay), (1 + updates) / (10 + updates))

        def mix(old: Array, new: Array) -> Array:
            # One element has the shape of its part; only the first device's is ever read.
            new = new if old.shape == new.shape else own_part(new)
            return new + decays * (old - new)

        return self.replace(average=jax.tree.map(mix, self.average, variables))


def _rate(opt_state: Any) -> Array | None:
    """Read the learning rate that `optax.inject_hyperparams` left in an optimizer's state.

    None if there is none, or one for each of several parts.
    """
    found = optax.tree_utils.tree_get_all_with_path(
        opt_state, "learning_rate", filtering=lambda _, value: isinstance(value, jax.Array)
    )
    return found[0][1] if len(found) == 1 else None
