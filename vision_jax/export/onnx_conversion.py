"""From a traced encoder to an ONNX graph."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from vision_jax.errors import InputError
from vision_jax.export.encoder import Traced
from vision_jax.export.onnx_graph import Graph, Value, constant
from vision_jax.export.onnx_operations import RULES, Rule, shape_of


def convert(traced: Traced, graph: Graph) -> list[Value]:
    """Add what a traced function computes to a graph.

    Args:
        traced: a function of the graph's images, flat and in native operations alone, as
            `encoder.trace` returns it.
        graph: what to add to.

    Returns:
        What the function returns.

    Raises:
        InputError: an operation has no rule here.
    """
    jaxpr = traced.jaxpr
    values = {v: constant(c) for v, c in zip(jaxpr.constvars, traced.consts, strict=True)}
    values[jaxpr.invars[0]] = graph.images

    def read(var: Any) -> Value:
        return constant(np.asarray(var.val, var.aval.dtype)) if _is_literal(var) else values[var]

    for equation in _needed(jaxpr):
        inputs = [read(var) for var in equation.invars]
        made = _fold(equation, inputs) or _rule(equation)(graph, inputs, equation)
        values |= zip(equation.outvars, [made] if isinstance(made, Value) else made, strict=True)
    return [graph.whole(read(var), shape_of(var)) for var in jaxpr.outvars]


def check_convertible(traced: Traced) -> None:
    """Refuse a traced function that has no form in ONNX, before work begins.

    Raises:
        InputError: an operation has no rule, or computes in another type than float32.
    """
    for equation in _needed(traced.jaxpr):
        _rule(equation)
        for var in equation.outvars:
            dtype = var.aval.dtype
            if jax.numpy.issubdtype(dtype, np.floating) and dtype != np.float32:
                raise InputError(
                    f"the encoder computes in {dtype}; float32 is needed for a file that ends in "
                    ".onnx, and .vjx takes any"
                )


def _is_literal(var: Any) -> bool:
    return isinstance(var, Literal)


def _needed(jaxpr: Any) -> list[Any]:
    """Return the equations that the results depend on, in order."""
    needed, kept = {var for var in jaxpr.outvars if not _is_literal(var)}, []
    for equation in reversed(jaxpr.eqns):
        if needed & set(equation.outvars):
            needed |= {var for var in equation.invars if not _is_literal(var)}
            kept.append(equation)
    return kept[::-1]


def _rule(equation: Any) -> Rule:
    name = equation.primitive.name
    if name not in RULES:
        raise InputError(
            f"the encoder computes {name}, which has no form in ONNX here; export it to a file "
            "that ends in .vjx"
        )
    return RULES[name]


def _fold(equation: Any, inputs: Sequence[Value]) -> list[Value] | None:
    """Compute an equation of constants now; None if it is none, or of the number of images."""
    if equation.primitive.name == "broadcast_in_dim":  # which would only grow
        return None
    constants = [value.array for value in inputs if value.array is not None]
    if len(constants) < len(inputs):
        return None
    if any(None in shape_of(var) for var in (*equation.invars, *equation.outvars)):
        return None
    arrays = [
        np.broadcast_to(array, var.aval.shape)
        for array, var in zip(constants, equation.invars, strict=True)
    ]
    primitive = equation.primitive
    made = primitive.bind(*map(jax.numpy.asarray, arrays), **equation.params)
    return [constant(x) for x in (made if primitive.multiple_results else [made])]
