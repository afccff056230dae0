"""Checks of the options of methods, and of maps."""

from typing import SupportsIndex

import numpy as np
from jaxtyping import Shaped

from vision_jax.errors import InputError


def check_count(count: SupportsIndex, name: str) -> None:
    """Refuse a number of steps, samples or masks below 1.

    Raises:
        InputError: it is below 1, or no whole number.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"{name} is {count!r}; a whole number of at least 1 is needed")


def check_not_nan(maps: Shaped[np.ndarray, "_ _ _"]) -> None:
    """Refuse maps that hold NaN.

    Raises:
        InputError: a value is NaN.
    """
    if count := int(np.isnan(maps).sum()):
        raise InputError(f"{count} values of the maps are NaN; none may be")
