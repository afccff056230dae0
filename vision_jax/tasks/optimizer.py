"""The update rule of a run, from optax."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vision_jax.config import OptimizerName, Schedule
from vision_jax.parallel.devices import AXIS


def build_optimizer(
    name: OptimizerName,
    *,
    schedule: optax.Schedule,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    clip: float = 0.0,
    shards: int = 1,
) -> optax.GradientTransformation:
    """Builds an update rule whose state tells the learning rate of its last update.

    Args:
        name: `adam` (Kingma and Ba, 2015), `adamw` (Loshchilov and Hutter, 2019), `sgd` with
            Nesterov momentum, `lion` (Chen et al., 2023) or `muon` (Jordan et al., 2024). Muon
            orthogonalises the momentum of dense kernels, and that of convolutions as matrices of
            height, width and input channels by output channels, scaled to the size of AdamW's
            updates (Liu et al., 2025); biases and scales it leaves to Adam with Nesterov's
            momentum (Dozat, 2016).
        schedule: learning rate by update, see `build_schedule`.
        weight_decay: decay of the kernels (parameters of two axes or more), times the learning
            rate. With `sgd` it is part of the gradient that the momentum averages.
        momentum: decay of the gradients' running mean, Adam's and Lion's first beta.
        clip: greatest Euclidean norm of the whole gradient, which is shortened to it; 0 for none.
        shards: devices over which the state is split, see `split`; not with `muon`, whose
            updates are not elementwise.

    Returns:
        The optax transformation.
    """
    # Made with a rate of 1, and scaled at the end in one place, which remembers the rate.
    rate = optax.inject_hyperparams(optax.scale_by_learning_rate, static_args="flip_sign")
    rule = optax.chain(_direction(name, weight_decay, momentum), rate(schedule, flip_sign=False))
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        rule if shards == 1 else split(rule, shards),
    )


def split(rule: optax.GradientTransformation, shards: int) -> optax.GradientTransformation:
    """Keeps on each device its part of a rule's state, and lets it move its part of the weights.

    The first stage of ZeRO (Rajbhandari et al., 2020).

    Args:
        rule: an elementwise update rule.
        shards: how many devices the axis `"batch"` has.

    Returns:
        A rule with the same updates. Its initial state has a leading axis of `shards`; `update`
        takes and returns one device's state, without that axis, under the axis `"batch"`.
    """

    def parts(leaf: jax.Array) -> jax.Array:
        # As many axes for each part as before, by which a rule tells kernels from biases.
        flat = jnp.pad(leaf.reshape(-1), (0, -leaf.size % shards))
        return flat.reshape(shards, -1, *(1,) * (leaf.ndim - 1))

    def init(params: Any) -> Any:
        return jax.vmap(rule.init)(jax.tree.map(parts, params))

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        place = jax.lax.axis_index(AXIS)
        own_grads, own_params = jax.tree.map(lambda leaf: parts(leaf)[place], (grads, params))
        updates, state = rule.update(own_grads, state, own_params)

        def whole(part: jax.Array, like: jax.Array) -> jax.Array:
            return jax.lax.all_gather(part, AXIS).reshape(-1)[: like.size].reshape(like.shape)

        return jax.tree.map(whole, updates, grads), state

    return optax.GradientTransformation(init, update)


def _direction(
    name: OptimizerName, weight_decay: float, momentum: float
) -> optax.GradientTransformation:
    match name:
        case "adam":
            return optax.adam(1.0, b1=momentum)
        case "adamw":
            return optax.adamw(1.0, b1=momentum, weight_decay=weight_decay, mask=_kernels)
        case "sgd":
            decay = optax.add_decayed_weights(weight_decay, mask=_kernels)
            return optax.chain(decay, optax.sgd(1.0, momentum=momentum, nesterov=True))
        case "lion":
            return optax.lion(1.0, b1=momentum, weight_decay=weight_decay, mask=_kernels)
        case "muon":
            return optax.contrib.muon(
                1.0,
                beta=momentum,
                adam_b1=momentum,
                weight_decay=weight_decay,
                consistent_rms=0.2,
                muon_weight_dimension_numbers=_matrices,
            )


def build_schedule(
    learning_rate: float,
    schedule: Schedule,
    *,
    warmup_steps: int = 0,
    total_steps: int,
    drop_steps: Sequence[int] = (),
    drop_factor: float = 0.1,
) -> optax.Schedule:
    """The learning rate by update: a linear rise, then constant, a half cosine to 0, or steps.

    Args:
        learning_rate: the peak.
        schedule: what follows the rise.
        warmup_steps: updates of the rise from 0.
        total_steps: updates of the run.
        drop_steps: updates, later than the rise, from which on the rate of `steps` is multiplied
            by `drop_factor` once more.
        drop_factor: see `drop_steps`.

    Returns:
        A function of the number of updates made before.
    """
    match schedule:
        case "constant":
            after = optax.constant_schedule(learning_rate)
        case "cosine":
            rest = max(total_steps - warmup_steps, 1)
            after = optax.cosine_decay_schedule(learning_rate, rest)
        case "steps":
            drops = {step - warmup_steps: drop_factor for step in drop_steps}
            after = optax.piecewise_constant_schedule(learning_rate, drops)
    if warmup_steps == 0:
        return after
    rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([rise, after], [warmup_steps])


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _matrices(params: Any) -> Any:
    """How Muon reads each kernel as a matrix; None for what is none."""
    kinds = {
        2: optax.contrib.MuonDimensionNumbers(0, 1),
        4: optax.contrib.MuonDimensionNumbers((0, 1, 2), 3),
    }
    return jax.tree.map(lambda leaf: kinds.get(leaf.ndim), params)
