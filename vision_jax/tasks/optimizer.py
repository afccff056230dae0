"""The update rule of a run, from optax."""

from typing import Any, Literal

import jax
import optax


def build_optimizer(
    name: Literal["adam", "adamw", "sgd"],
    *,
    learning_rate: float,
    schedule: Literal["constant", "cosine"] = "constant",
    warmup_steps: int = 0,
    total_steps: int,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
) -> optax.GradientTransformation:
    """Builds the update rule with its learning-rate schedule.

    Args:
        name: `adam` (Kingma and Ba, 2015), `adamw` (Loshchilov and Hutter, 2019) or `sgd` with
            Nesterov momentum.
        learning_rate: the peak.
        schedule: after the warm-up, constant or a half cosine to 0.
        warmup_steps: steps of linear rise from 0.
        total_steps: steps of the run.
        weight_decay: decoupled decay of the kernels (parameters of two axes or more).
        momentum: decay of the gradients' running mean, Adam's first beta.

    Returns:
        The optax transformation.
    """
    rate = build_schedule(learning_rate, schedule, warmup_steps, total_steps)
    decay = optax.add_decayed_weights(weight_decay, mask=_kernels)
    match name:
        case "adam":
            return optax.adam(rate, b1=momentum)
        case "adamw":
            return optax.adamw(rate, b1=momentum, weight_decay=weight_decay, mask=_kernels)
        case "sgd":
            return optax.chain(decay, optax.sgd(rate, momentum=momentum, nesterov=True))


def build_schedule(
    learning_rate: float,
    schedule: Literal["constant", "cosine"],
    warmup_steps: int,
    total_steps: int,
) -> optax.Schedule:
    """The learning rate by step: a linear rise, then constant or a half cosine to 0.

    Args:
        learning_rate: the peak.
        schedule: what follows the warm-up.
        warmup_steps: steps of the rise.
        total_steps: steps of the run.

    Returns:
        A function of the step.
    """
    rest = max(total_steps - warmup_steps, 1)
    after = (
        optax.cosine_decay_schedule(learning_rate, rest)
        if schedule == "cosine"
        else optax.constant_schedule(learning_rate)
    )
    if warmup_steps == 0:
        return after
    rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([rise, after], [warmup_steps])


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
