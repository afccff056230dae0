"""JAX's operations in ONNX's: one rule for each that an encoder may hold."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vision_jax.errors import InputError
from vision_jax.export.onnx_graph import Graph, Shape, Value, constant

Rule = Callable[[Graph, list[Value], Any], Value | list[Value]]


def shape_of(var: Any) -> Shape:
    """Return a variable's shape, None for the number of images."""
    return tuple(size if isinstance(size, int) else None for size in var.aval.shape)


def _wholes(graph: Graph, inputs: Sequence[Value], equation: Any) -> list[Value]:
    return [graph.whole(v, shape_of(x)) for v, x in zip(inputs, equation.invars, strict=True)]


def _joint(inputs: Sequence[Value]) -> Shape:
    """Return the shape to which values broadcast."""
    rank = max(len(value.shape) for value in inputs)
    shapes = [(1,) * (rank - len(value.shape)) + value.shape for value in inputs]
    return tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*shapes, strict=True))


def _elementwise(operation: str) -> Rule:
    def rule(graph: Graph, inputs: list[Value], equation: Any) -> Value:
        return graph.node(operation, inputs, _joint(inputs))

    return rule


def _chain(*operations: str) -> Rule:
    def rule(graph: Graph, inputs: list[Value], equation: Any) -> Value:
        value = inputs[0]
        for operation in operations:
            value = graph.node(operation, [value], value.shape)
        return value

    return rule


def _same(graph: Graph, inputs: list[Value], equation: Any) -> list[Value]:
    return inputs


def _erfc(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    value = graph.node("Erf", inputs, inputs[0].shape)
    return graph.node("Sub", [constant(np.float32(1)), value], value.shape)


def _integer_pow(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    power = constant(np.array(equation.params["y"], equation.invars[0].aval.dtype))
    return graph.node("Pow", [inputs[0], power], inputs[0].shape)


def _square(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    return graph.node("Mul", [inputs[0], inputs[0]], inputs[0].shape)


def _not_equal(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    equal = graph.node("Equal", inputs, _joint(inputs))
    return graph.node("Not", [equal], equal.shape)


def _clamp(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    least, value, most = inputs
    value = graph.node("Max", [value, least], _joint([value, least]))
    return graph.node("Min", [value, most], _joint([value, most]))


def _select(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    which, false, true = inputs
    return graph.node("Where", [which, true, false], _joint(inputs))


def _cast(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
    return graph.node("Cast", inputs, inputs[0].shape, to=kind)


def _broadcast(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    # Left to what uses it: ONNX's operations broadcast by themselves.
    shape: list[int | None] = [1] * len(equation.params["shape"])
    for size, axis in zip(inputs[0].shape, equation.params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return graph.reshape(inputs[0], tuple(shape))


def _reshape(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    (value,) = _wholes(graph, inputs, equation)
    return graph.reshape(value, shape_of(equation.outvars[0]))


def _transpose(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    return graph.transpose(inputs[0], equation.params["permutation"])


def _reduce(operation: str) -> Rule:
    def rule(graph: Graph, inputs: list[Value], equation: Any) -> Value:
        (value,), shape = _wholes(graph, inputs, equation), shape_of(equation.outvars[0])
        axes = [int(axis) for axis in equation.params["axes"]]
        if operation == "ReduceSum":  # whose axes are an input in this version of ONNX
            return graph.node(operation, [value, constant(np.array(axes))], shape, keepdims=0)
        return graph.node(operation, [value], shape, axes=axes, keepdims=0)

    return rule


def _concatenate(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    axis, shape = equation.params["dimension"], shape_of(equation.outvars[0])
    return graph.node("Concat", _wholes(graph, inputs, equation), shape, axis=axis)


def _split(graph: Graph, inputs: list[Value], equation: Any) -> list[Value]:
    sizes = constant(np.array(equation.params["sizes"], np.int64))
    shapes = [shape_of(var) for var in equation.outvars]
    whole = _wholes(graph, inputs, equation)
    return graph.nodes("Split", [*whole, sizes], shapes, axis=equation.params["axis"])


def _unstack(graph: Graph, inputs: list[Value], equation: Any) -> list[Value]:
    axis, (value,) = equation.params["axis"], _wholes(graph, inputs, equation)
    shapes = [shape_of(var) for var in equation.outvars]
    thin = [(*shape[:axis], 1, *shape[axis:]) for shape in shapes]
    sizes = constant(np.ones(len(shapes), np.int64))
    parts = graph.nodes("Split", [value, sizes], thin, axis=axis)
    return [graph.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def _slice(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    params, (value,) = equation.params, _wholes(graph, inputs, equation)
    steps = params["strides"] or (1,) * len(value.shape)
    return _sliced(graph, value, params["start_indices"], params["limit_indices"], steps, equation)


def _dynamic_slice(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    (value, *starts), sizes = _wholes(graph, inputs, equation), equation.params["slice_sizes"]
    places = [int(start.array) for start in starts if start.array is not None]
    if len(places) < len(starts):
        raise InputError(_MOVING)
    return _at(graph, value, places, sizes, equation)


def _gather(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    """Take one slice at a constant place, as `x[:, 0]` does."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    value, index = _wholes(graph, inputs, equation)
    if index.array is None or index.array.ndim != 1 or numbers.operand_batching_dims:
        raise InputError(_MOVING)
    places = [0] * len(sizes)
    for axis, place in zip(numbers.start_index_map, index.array.tolist(), strict=True):
        places[axis] = place
    return graph.reshape(_at(graph, value, places, sizes, equation), shape_of(equation.outvars[0]))


_MOVING = "the encoder picks parts of an array at places that depend on the image; .vjx takes it"


def _at(
    graph: Graph, value: Value, places: Sequence[int], sizes: Sequence[Any], equation: Any
) -> Value:
    """Cut a slice of these sizes out at a place."""
    given = equation.invars[0].aval.shape
    # JAX moves a slice that reaches beyond the edge back inside.
    starts = [
        0 if size == whole else min(max(place, 0), whole - size)
        for place, size, whole in zip(places, sizes, given, strict=True)
    ]
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return _sliced(graph, value, starts, ends, [1] * len(sizes), equation)


def _sliced(
    graph: Graph,
    value: Value,
    starts: Sequence[Any],
    ends: Sequence[Any],
    steps: Sequence[int],
    equation: Any,
) -> Value:
    whole = equation.invars[0].aval.shape
    axes = [
        axis
        for axis in range(len(whole))
        if not (starts[axis] == 0 and ends[axis] == whole[axis] and steps[axis] == 1)
    ]
    parts = [[int(part[axis]) for axis in axes] for part in (starts, ends)]
    cut = [*parts, axes, [int(steps[axis]) for axis in axes]]
    numbers = [constant(np.array(row, np.int64)) for row in cut]
    sizes = [-(-(ends[axis] - starts[axis]) // steps[axis]) for axis in axes]
    shape = list(value.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = int(size)
    return graph.node("Slice", [value, *numbers], tuple(shape))


def _reverse(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    axes = list(equation.params["dimensions"])
    cut = [[-1] * len(axes), [np.iinfo(np.int64).min] * len(axes), axes, [-1] * len(axes)]
    numbers = [constant(np.array(row, np.int64)) for row in cut]
    (value,) = _wholes(graph, inputs, equation)
    return graph.node("Slice", [value, *numbers], value.shape)


def _pad(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    edges = equation.params["padding_config"]
    if any(inner for *_, inner in edges):
        raise InputError("the encoder computes pad within the image, which has no form in ONNX")
    numbers = [before for before, _, _ in edges] + [after for _, after, _ in edges]
    value, fill = _wholes(graph, inputs, equation)
    pads = constant(np.array(numbers, np.int64))
    return graph.node("Pad", [value, pads, fill], shape_of(equation.outvars[0]))


def _convolution(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    params = equation.params
    numbers, dilated = params["dimension_numbers"], params["lhs_dilation"]
    if any(step != 1 for step in dilated) or params["batch_group_count"] != 1:
        raise InputError("the encoder computes a transposed convolution; .vjx takes it")
    images, kernel = _wholes(graph, inputs, equation)
    images = graph.transpose(images, numbers.lhs_spec)
    kernel = graph.transpose(kernel, numbers.rhs_spec)
    starts, ends = zip(*params["padding"], strict=True)
    shape, spec = shape_of(equation.outvars[0]), numbers.out_spec
    made = graph.node(
        "Conv",
        [images, kernel],
        tuple(shape[axis] for axis in spec),
        strides=list(params["window_strides"]),
        pads=[*starts, *ends],
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
    )
    return graph.transpose(made, np.argsort(spec).tolist())


def _pool(operation: str) -> Rule:
    def rule(graph: Graph, inputs: list[Value], equation: Any) -> Value:
        params, shape = equation.params, shape_of(equation.outvars[0])
        window, steps, edges = (
            params[name] for name in ("window_dimensions", "window_strides", "padding")
        )
        dilations = [*params["base_dilation"], *params["window_dilation"]]
        sound = len(window) == 4 and (window[0], window[3], steps[0], steps[3]) == (1, 1, 1, 1)
        if not sound or any(n != 1 for n in dilations) or any(edges[0]) or any(edges[3]):
            raise InputError("the encoder pools over other axes than height and width")
        to_nchw, options = (0, 3, 1, 2), {}
        if operation == "AveragePool":
            options["count_include_pad"] = 1
        (value,) = _wholes(graph, inputs[:1], equation)
        made = graph.node(
            operation,
            [graph.transpose(value, to_nchw)],
            tuple(shape[axis] for axis in to_nchw),
            kernel_shape=list(window[1:3]),
            strides=list(steps[1:3]),
            pads=[edges[1][0], edges[2][0], edges[1][1], edges[2][1]],
            **options,
        )
        made = graph.transpose(made, (0, 2, 3, 1))
        if operation == "MaxPool":
            return made
        return graph.node("Mul", [made, constant(np.float32(math.prod(window)))], made.shape)

    return rule


def _product(graph: Graph, inputs: list[Value], equation: Any) -> Value:
    """Multiply matrices: batch axes first, contracted ones together."""
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]
    left, right = _wholes(graph, inputs, equation)
    left_free = _others(left, left_sum, left_batch)
    right_free = _others(right, right_sum, right_batch)
    batch = tuple(left.shape[axis] for axis in left_batch)
    rows = tuple(left.shape[axis] for axis in left_free)
    columns = tuple(right.shape[axis] for axis in right_free)
    terms = math.prod(right.shape[axis] or 1 for axis in right_sum)
    left = graph.transpose(left, (*left_batch, *left_free, *left_sum))
    right = graph.transpose(right, (*right_batch, *right_sum, *right_free))
    # Without batch axes rows may have any number of axes.
    flat_rows = rows if rows and not batch else (_many(rows),)
    left = graph.reshape(left, (*batch, *flat_rows, terms))
    right = graph.reshape(right, (*batch, terms, _many(columns)))
    made = graph.node("MatMul", [left, right], (*batch, *flat_rows, _many(columns)))
    return graph.reshape(made, (*batch, *rows, *columns))


def _many(shape: Shape) -> int | None:
    return None if None in shape else math.prod(n or 1 for n in shape)


def _others(value: Value, *taken: Sequence[int]) -> list[int]:
    return [axis for axis in range(len(value.shape)) if not any(axis in axes for axes in taken)]


RULES: dict[str, Rule] = {
    "abs": _elementwise("Abs"),
    "add": _elementwise("Add"),
    "add_any": _elementwise("Add"),
    "and": _elementwise("And"),
    "broadcast_in_dim": _broadcast,
    "ceil": _elementwise("Ceil"),
    "clamp": _clamp,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _cast,
    "copy": _same,
    "cos": _elementwise("Cos"),
    "div": _elementwise("Div"),
    "dot_general": _product,
    "dynamic_slice": _dynamic_slice,
    "eq": _elementwise("Equal"),
    "erf": _elementwise("Erf"),
    "erfc": _erfc,
    "exp": _elementwise("Exp"),
    "floor": _elementwise("Floor"),
    "gather": _gather,
    "ge": _elementwise("GreaterOrEqual"),
    "gt": _elementwise("Greater"),
    "integer_pow": _integer_pow,
    "iota": _same,  # a constant, which is folded
    "le": _elementwise("LessOrEqual"),
    "log": _elementwise("Log"),
    "logistic": _elementwise("Sigmoid"),
    "lt": _elementwise("Less"),
    "max": _elementwise("Max"),
    "min": _elementwise("Min"),
    "mul": _elementwise("Mul"),
    "ne": _not_equal,
    "neg": _elementwise("Neg"),
    "not": _elementwise("Not"),
    "optimization_barrier": _same,
    "or": _elementwise("Or"),
    "pad": _pad,
    "pow": _elementwise("Pow"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_prod": _reduce("ReduceProd"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool"),
    "reshape": _reshape,
    "rev": _reverse,
    "rsqrt": _chain("Sqrt", "Reciprocal"),
    "select_n": _select,
    "sign": _elementwise("Sign"),
    "sin": _elementwise("Sin"),
    "slice": _slice,
    "split": _split,
    "sqrt": _elementwise("Sqrt"),
    "square": _square,
    "squeeze": _reshape,
    "stop_gradient": _same,
    "sub": _elementwise("Sub"),
    "tanh": _elementwise("Tanh"),
    "transpose": _transpose,
    "unstack": _unstack,
}
"""How each operation is written, by its name in JAX."""
