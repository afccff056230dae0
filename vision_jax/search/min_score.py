"""A least score: leave out of a result what is less similar."""

import math
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vision_jax.errors import InputError

MinScore = SupportsFloat
"""A cosine in [-1, 1]."""


def check_min_score(value: Any) -> None:
    """Refuse a least score that no cosine is.

    Args:
        value: A number in [-1, 1]; None for none, or what is traced under `jit`, passes.

    Raises:
        InputError: If it is anything else, such as a percentage.
    """
    if value is None or isinstance(value, jax.core.Tracer):
        return
    try:
        number = math.nan if isinstance(value, bool | np.bool_ | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not -1 <= number <= 1:
        raise InputError(f"min_score is {value!r}; a cosine in [-1, 1] is needed")


def at_least(
    found: tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]],
    min_score: MinScore | None,
) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
    """Empty the places that score below `min_score`; as good as it stays.

    Args:
        found: `(scores, ids)`, both (Q, k).
        min_score: In [-1, 1], compared as float32, as scores are; None keeps all.

    Returns:
        `(scores, ids)`, -inf and -1 in the places emptied.
    """
    scores, ids = found
    if min_score is None:
        return found
    kept = scores >= np.float32(min_score)
    return np.where(kept, scores, np.float32(-np.inf)), np.where(kept, ids, -1)


def at_least_on_device(
    scores: Float[Array, "queries k"], ids: Int[Array, "queries k"], min_score: MinScore
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Do as `at_least`, under `jit`; gradients pass through the scores that stay."""
    kept = scores >= jnp.asarray(min_score, jnp.float32)
    return jnp.where(kept, scores, -jnp.inf), jnp.where(kept, ids, -1)
