"""Arrays from what callers pass: lists, tuples, NumPy and JAX arrays, of any layout.

One rule for every argument: real numbers are vectors, integers are ids or labels, booleans are a
mask. Anything else is refused, and the error names what was given and what is needed.
"""

import operator
import reprlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from vision_jax.errors import InputError

# Shapes and dtypes are checked by this module, whose errors say what is needed.
ArrayLike = Shaped[Array | np.ndarray, "..."] | Sequence[Any]
"""An array, or nested sequences of numbers or booleans."""

HALF = (np.dtype(np.float16), np.dtype(jnp.bfloat16))
"""Floats of 16 bits, which are kept as they are where they save memory."""

SHOWN = 10
"""How many offending rows or ids an error lists."""


def vectors(name: str, value: Any, dim: int | None = None) -> Float[np.ndarray, "rows dim"]:
    """Return real numbers as a float32 matrix.

    Args:
        name: The argument's name, for the error.
        value: (N, D) floats or integers; [] stands for no rows where `dim` is given.
        dim: D, or None for any.

    Raises:
        InputError: If `value` is something else.
    """
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite
        return matrix(name, value, dim).astype(np.float32, copy=False)


def matrix(name: str, value: Any, dim: int | None = None) -> Shaped[np.ndarray, "rows dim"]:
    """Return real numbers as a matrix of the dtype they have.

    Args:
        name: The argument's name, for the error.
        value: As for `vectors`.
        dim: As for `vectors`.

    Raises:
        InputError: If `value` is something else.
    """
    needed = f"(N, {'D' if dim is None else dim}) real numbers are needed"
    array = plain(name, value, needed)
    if array.shape == (0,) and dim is not None:
        array = array.reshape(0, dim)
    if array.ndim != 2 or (dim is not None and array.shape[1] != dim) or not is_real(array.dtype):
        raise InputError(f"{name} is {describe(array)}; {needed}")
    return array


def on_device(name: str, value: Any) -> Shaped[Array, "rows dim"]:
    """Return a matrix of real numbers on the device; under `jit`, a traced one.

    Args:
        name: The argument's name, for the error.
        value: (N, D) floats or integers. Floats on the device, and half-precision floats, keep
            their dtype; all else becomes float32.

    Raises:
        InputError: If `value` is something else.
    """
    if isinstance(value, jax.Array):
        if value.ndim != 2 or not is_real(value.dtype):
            raise InputError(f"{name} is {describe(value)}; (N, D) real numbers are needed")
        is_float = jnp.issubdtype(value.dtype, jnp.floating)
        return value if is_float else value.astype(jnp.float32)
    rows = matrix(name, value)
    return jnp.asarray(rows if rows.dtype in HALF else vectors(name, rows))


def directions(name: str, value: Any, dim: int) -> Float[np.ndarray, "rows dim"]:
    """Return vectors of which each has a direction.

    Args:
        name: The argument's name, for the error.
        value: As for `vectors`.
        dim: D.

    Raises:
        InputError: As for `vectors`, or if a row is zero, NaN or infinite in float32.
    """
    rows = vectors(name, value, dim)
    lost = without_direction(rows)
    if len(lost):
        raise InputError(
            f"{name} is zero, NaN or infinite in float32 in {len(lost)} of {len(rows)} rows: "
            f"{first(lost)}; a cosine needs a direction"
        )
    return rows


def without_direction(
    rows: Shaped[np.ndarray, "rows dim"], size: int = 16_384
) -> Int[np.ndarray, " lost"]:
    """List the rows that are zero, or NaN or infinite in any entry: they have no cosine.

    Values below float32's smallest normal number count as zero, as they do on devices.

    Args:
        rows: (N, D).
        size: Rows at a time, so that temporaries stay in cache.
    """
    parts = (rows[start : start + size] for start in range(0, len(rows), size))
    least = 1 if rows.dtype.kind in "biu" else np.finfo(np.float32).tiny
    sound = [np.isfinite(part).all(1) & (np.abs(part) >= least).any(1) for part in parts]
    return np.flatnonzero(~np.concatenate([*sound, np.zeros(0, bool)]))


def integers(name: str, value: Any, ndim: int | None = None) -> Int[np.ndarray, "..."]:
    """Return integers as int64; what is empty counts as integers.

    Args:
        name: The argument's name, for the error.
        value: Integers of any width, but no booleans and no floats, whole or not.
        ndim: How many axes they must have, or None for any.

    Raises:
        InputError: If `value` is something else.
    """
    needed = f"{'' if ndim is None else f'{ndim}-dimensional '}integers are needed"
    array = plain(name, value, needed)
    sound = not array.size or array.dtype.kind in "iu"
    if not sound or ndim not in (None, array.ndim):
        raise InputError(f"{name} is {describe(array)}; {needed}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{name} is up to {array.max()}; integers below 2**63 are needed")
    return array.astype(np.int64)


def ids(name: str, value: Any) -> Int[np.ndarray, " ids"]:
    """Return one id or a list of ids as a vector.

    Raises:
        InputError: If `value` is something else.
    """
    array = integers(name, value)
    if array.ndim > 1:
        raise InputError(f"{name} is {describe(array)}; one id or a list of ids is needed")
    return array.reshape(-1)


def booleans(name: str, value: Any, ndim: int) -> Bool[np.ndarray, "..."]:
    """Return booleans.

    Args:
        name: The argument's name, for the error.
        value: Booleans, no numbers.
        ndim: How many axes they must have.

    Raises:
        InputError: If `value` is something else.
    """
    needed = f"{ndim}-dimensional booleans are needed"
    array = plain(name, value, needed)
    if array.dtype != bool or array.ndim != ndim:
        raise InputError(f"{name} is {describe(array)}; {needed}")
    return array


def count(name: str, value: Any, least: int = 1) -> int:
    """Return an integer of at least `least`, Python's or NumPy's.

    Raises:
        InputError: If `value` is something else.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {value!r}; an integer of at least {least} is needed")
    return number


def plain(name: str, value: Any, needed: str) -> np.ndarray:
    """Return a NumPy array of whatever it holds, but never booleans turned into numbers.

    Args:
        name: The argument's name, for the error.
        value: An array or nested sequences.
        needed: The end of the error.

    Raises:
        InputError: If `value` is ragged, is masked in part, or mixes booleans and numbers.
    """
    sound = not isinstance(value, np.ma.MaskedArray)
    try:
        array = np.asarray(value)
        if array.dtype == object:
            value = array.tolist()
            array = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        sound = False
    # NumPy reads [True, 3] as [1, 3].
    if not sound or (array.dtype != bool and _holds_booleans(value)):
        raise InputError(f"{name} is {describe(value)}; {needed}")
    return array


def is_real(dtype: Any) -> bool:
    """Say whether a dtype is of integers or floats, bfloat16 included."""
    return np.dtype(dtype).kind in "iu" or bool(jnp.issubdtype(dtype, jnp.floating))


def first(values: np.ndarray) -> str:
    """List the first few values, for an error."""
    more = ", …" if len(values) > SHOWN else ""
    return f"[{', '.join(map(str, values[:SHOWN].tolist()))}{more}]"


def describe(value: Any) -> str:
    """Say what was passed, for an error."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        text = f"{value.dtype} of shape {tuple(value.shape)}"
        if isinstance(value, np.ndarray) and value.ndim < 2 and 0 < value.size <= SHOWN:
            text += f", {value.tolist()}"
        return text
    return f"{type(value).__name__} {reprlib.repr(value)}"


def _holds_booleans(value: Any) -> bool:
    """Say whether nested sequences hold a boolean somewhere."""
    if hasattr(value, "dtype"):
        return bool(value.dtype == bool)
    if not isinstance(value, list | tuple):
        return isinstance(value, bool)
    kinds = set(map(type, value))
    if kinds & {bool, np.bool_}:
        return True
    nested = any(hasattr(kind, "__len__") or hasattr(kind, "dtype") for kind in kinds)
    return nested and any(_holds_booleans(part) for part in value)
