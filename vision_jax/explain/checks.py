"""Checks of the options of methods."""

from vision_jax.errors import InputError


def check_count(count: int, name: str) -> None:
    """Refuse a number of steps, samples or masks below 1.

    Raises:
        InputError: it is below 1, or no whole number.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"{name} is {count!r}; a whole number of at least 1 is needed")
