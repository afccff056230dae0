"""Operations that lower natively on accelerators and to their own form on a CPU.

`jax.lax.platform_dependent` chooses between two forms too, but differentiates through both. A
primitive keeps the choice out of the derivative: its rules name other primitives, and only the
lowering, which comes last, knows the platform.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

Form = Callable[..., jax.Array]
BatchRule = Callable[..., tuple[jax.Array, int]]

NATIVE_FORMS: dict[Primitive, Form] = {}
"""The native form of each primitive, for programs that know XLA's operations alone."""


def make_primitive(name: str, *, native: Form, cpu: Form, batch: BatchRule) -> Primitive:
    """Make a primitive of one result.

    Args:
        name: The primitive's name, as printed in a jaxpr.
        native: The defining form, in XLA's operations. It decides the result's shape and is
            lowered on every platform but the CPU.
        cpu: An equal form, lowered on a CPU.
        batch: The `jax.vmap` rule, called as `batch(primitive, args, axes, **params)`.

    Returns:
        The primitive. Its operands are arrays, its parameters hashable keyword arguments;
        derivative rules are the caller's to add.
    """
    primitive = Primitive(name)

    @partial(jax.jit, static_argnames="params")
    def run(*args: jax.Array, params: tuple[tuple[str, Hashable], ...]) -> jax.Array:
        return primitive.bind(*args, **dict(params))

    def eager(*args: jax.Array, **params: Hashable) -> jax.Array:
        return run(*args, params=tuple(params.items()))

    def abstract(*args: jax.core.ShapedArray, **params: Hashable) -> jax.core.ShapedArray:
        result = jax.eval_shape(partial(native, **params), *args)
        return jax.core.ShapedArray(result.shape, result.dtype)

    primitive.def_impl(eager)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(native, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    batching.primitive_batchers[primitive] = partial(batch, primitive)
    NATIVE_FORMS[primitive] = native
    return primitive


def fold_batch(
    primitive: Primitive, args: tuple[jax.Array, ...], axes: tuple[int | None, ...], **params: Any
) -> tuple[jax.Array, int]:
    """Vmap rule of an operation whose operands all start with the batch axis: fold the two."""
    size = next(a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
    folded = []
    for array, axis in zip(args, axes, strict=True):
        if axis is None:
            array = jax.numpy.broadcast_to(array, (size, *array.shape))
        else:
            array = jax.numpy.moveaxis(array, axis, 0)
        folded.append(array.reshape(size * array.shape[1], *array.shape[2:]))
    result = primitive.bind(*folded, **params)
    return result.reshape(size, result.shape[0] // size, *result.shape[1:]), 0
