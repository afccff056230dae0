"""Optimizers and learning rate schedules, from optax."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vision_jax.config import OptimizerName, Schedule
from vision_jax.parallel.shards import own_part, parts, whole


def build_optimizer(
    name: OptimizerName,
    *,
    schedule: optax.Schedule,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    clip: float = 0.0,
    shards: int = 1,
    depths: Mapping[str, int] | None = None,
    layer_decay: float = 1.0,
    head_steps: int = 0,
) -> optax.GradientTransformation:
    """Build an optimizer whose state records the learning rate of its last update.

    Args:
        name: `adam` (Kingma and Ba, 2015), `adamw` (Loshchilov and Hutter, 2019), `sgd` with
            Nesterov momentum, `lion` (Chen et al., 2023) or `muon` (Jordan et al., 2024). Muon
            orthogonalises the momentum of kernels, with convolutions reshaped to (height · width ·
            input channels, output channels), scaled to match AdamW's updates (Liu et al., 2025).
            It updates biases and scales by Adam with Nesterov momentum (Dozat, 2016).
        schedule: learning rate by update, see `build_schedule`.
        weight_decay: weight decay of kernels (parameters with two or more axes), times the learning
            rate. With `sgd` it is added to the gradient before momentum.
        momentum: momentum of `sgd` and `muon`; first beta of the others.
        clip: maximum global gradient norm; 0 disables clipping.
        shards: number of devices over which to split the optimizer state, see `split`; 1 with
            `muon`, whose updates are not elementwise.
        depths: how many stages each parameter is below the head, by its path; see
            `stages.stage_depths`. Needed by the next two.
        layer_decay: the rate of a parameter `depth` stages below the head is `layer_decay ** depth`
            times the schedule's (Bao et al., "BEiT", 2022).
        head_steps: updates at the start that move the head alone, of depth 0; the rule then begins
            anew for the other parameters.

    Returns:
        The optax transformation.
    """
    # The rules have a rate of 1: one last stage scales all of them, and records the rate.
    rate = optax.inject_hyperparams(optax.scale_by_learning_rate, static_args="flip_sign")
    direction = _direction(name, weight_decay, momentum)
    if depths is not None and head_steps:
        parts = {True: direction, False: _delayed(direction, head_steps)}
        direction = optax.partition(parts, partial(_by_path, lambda path: depths[path] == 0))
    if depths is not None and layer_decay != 1:
        direction = optax.chain(direction, _scaled(depths, layer_decay))
    rule = optax.chain(direction, rate(schedule, flip_sign=False))
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        rule if shards == 1 else split(rule, shards),
    )


def split(rule: optax.GradientTransformation, shards: int) -> optax.GradientTransformation:
    """Split an optimizer's state over devices, each of which updates its part of the weights.

    ZeRO stage 1 (Rajbhandari et al., 2020).

    Args:
        rule: an elementwise optimizer.
        shards: number of devices along the axis `"batch"`.

    Returns:
        An optimizer with the same updates. Its initial state has a leading axis of `shards`;
        `update` takes and returns one device's state, without that axis, under the axis `"batch"`.
    """

    def init(params: Any) -> Any:
        return jax.vmap(rule.init)(jax.tree.map(lambda leaf: parts(leaf, shards), params))

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        own_grads, own_params = jax.tree.map(own_part, (grads, params))
        updates, state = rule.update(own_grads, state, own_params)
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


class _Delayed(NamedTuple):
    """How many updates were made, and the state of the rule that waits."""

    updates: Any
    inner: Any


def _delayed(rule: optax.GradientTransformation, start: int) -> optax.GradientTransformation:
    """Let a rule begin after some updates, as if there had been none before."""

    def init(params: Any) -> _Delayed:
        return _Delayed(jnp.zeros((), jnp.int32), rule.init(params))

    def update(grads: Any, state: _Delayed, params: Any = None) -> tuple[Any, _Delayed]:
        moves = state.updates >= start
        updates, inner = rule.update(grads, state.inner, params)
        # Adding a negative zero leaves every bit of a parameter.
        updates = jax.tree.map(lambda leaf: jnp.where(moves, leaf, -jnp.zeros_like(leaf)), updates)
        inner = jax.tree.map(partial(jnp.where, moves), inner, state.inner)
        return updates, _Delayed(state.updates + 1, inner)

    return optax.GradientTransformation(init, update)


def _scaled(depths: Mapping[str, int], decay: float) -> optax.GradientTransformation:
    """Scale each parameter's update by a power of the decay."""

    def update(updates: Any, params: Any) -> Any:
        del params
        factors = _by_path(lambda path: decay ** depths[path], updates)
        return jax.tree.map(lambda leaf, factor: leaf * factor, updates, factors)

    return optax.stateless(update)


def _by_path(function: Callable[[str], Any], params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: function(jax.tree_util.keystr(path, simple=True, separator="/")), params
    )


def build_schedule(
    learning_rate: float,
    schedule: Schedule,
    *,
    warmup_steps: int = 0,
    start: int = 0,
    total_steps: int,
    drop_steps: Sequence[int] = (),
    drop_factor: float = 0.1,
) -> optax.Schedule:
    """Build a learning rate schedule: linear warmup, then constant, cosine decay to 0, or steps.

    Args:
        learning_rate: peak learning rate.
        schedule: schedule after the warmup.
        warmup_steps: number of updates over which the rate rises linearly from 0.
        start: number of updates before the schedule begins, which the other steps are counted
            from.
        total_steps: number of updates in the run, those before `start` among them.
        drop_steps: updates, after the warmup, at which `steps` multiplies the rate by
            `drop_factor`; once for each time that one is named.
        drop_factor: see `drop_steps`.

    Returns:
        A function from the number of previous updates to the rate.
    """
    if start:
        begun = build_schedule(
            learning_rate,
            schedule,
            warmup_steps=warmup_steps,
            total_steps=total_steps - start,
            drop_steps=drop_steps,
            drop_factor=drop_factor,
        )
        return lambda count: begun(jnp.maximum(jnp.asarray(count, jnp.float32) - start, 0))
    match schedule:
        case "constant":
            after = optax.constant_schedule(learning_rate)
        case "cosine":
            rest = max(total_steps - warmup_steps, 1)
            after = optax.cosine_decay_schedule(learning_rate, rest)
        case "steps":
            drops = {
                step - warmup_steps: drop_factor**times
                for step, times in Counter(drop_steps).items()
            }
            after = optax.piecewise_constant_schedule(learning_rate, drops)
    if warmup_steps == 0:
        return after
    rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([rise, after], [warmup_steps])


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _matrices(params: Any) -> Any:
    """Return how Muon reshapes each kernel to a matrix; None for other parameters."""
    kinds = {
        2: optax.contrib.MuonDimensionNumbers(0, 1),
        4: optax.contrib.MuonDimensionNumbers((0, 1, 2), 3),
    }
    return jax.tree.map(lambda leaf: kinds.get(leaf.ndim), params)
