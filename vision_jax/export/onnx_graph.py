"""An ONNX graph that is built node by node."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int | None, ...]
"""Sizes; None is the number of images."""

INPUT = "images"
BATCH = "batch"
OPSET = 17
_IR_VERSION = 8  # the first with this opset, which any ONNX Runtime since 2022 reads


class Value(NamedTuple):
    """What an operation made, or a constant.

    Attributes:
        shape: as it is in the graph; where it is to be broadcast, 1.
        name: in the graph; empty for a constant.
        array: the constant.
    """

    shape: Shape
    name: str = ""
    array: np.ndarray | None = None


def constant(array: Any) -> Value:
    """Return a constant; only what a node uses gets into the graph."""
    array = np.asarray(array)
    return Value(array.shape, array=array)


class Graph:
    """A graph of one input, `images`, float32 (batch, height, width, channels).

    Args:
        image_shape: (height, width, channels).
    """

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        self.images = Value((None, *image_shape), INPUT)
        self._nodes: list[Any] = []
        self._constants: dict[Any, Any] = {}
        self._batch: Value | None = None

    def node(
        self, operation: str, inputs: Sequence[Value], shape: Shape, **attributes: Any
    ) -> Value:
        """Add a node of one output.

        Args:
            operation: the name of an ONNX operator.
            inputs: its inputs.
            shape: of its output.
            **attributes: of the operator.
        """
        return self.nodes(operation, inputs, [shape], **attributes)[0]

    def nodes(
        self, operation: str, inputs: Sequence[Value], shapes: Sequence[Shape], **attributes: Any
    ) -> list[Value]:
        """Add a node of several outputs; see `node`."""
        from onnx import helper

        start = sum(len(node.output) for node in self._nodes)
        made = [Value(shape, f"v{start + n}") for n, shape in enumerate(shapes)]
        names = [self._name(value) for value in inputs]
        self._nodes.append(
            helper.make_node(operation, names, [value.name for value in made], **attributes)
        )
        return made

    def reshape(self, value: Value, shape: Shape) -> Value:
        """Give a value another shape of as many elements."""
        if value.shape == shape:
            return value
        if value.array is not None:
            return constant(value.array.reshape([-1 if n is None else n for n in shape]))
        sizes = constant(np.array([-1 if n is None else n for n in shape], np.int64))
        return self.node("Reshape", [value, sizes], shape)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Put the axes of a value in another order."""
        if list(order) == sorted(order):
            return value
        if value.array is not None:
            return constant(value.array.transpose(order))
        return self.node(
            "Transpose", [value], tuple(value.shape[axis] for axis in order), perm=list(order)
        )

    def whole(self, value: Value, shape: Shape) -> Value:
        """Broadcast a value in the graph, where that was left to the operations so far."""
        if value.shape == shape:
            return value
        if value.array is not None and None not in shape:
            return constant(np.broadcast_to(value.array, [n or 1 for n in shape]))
        sizes: list[Value] = []
        for size in shape:
            sizes.append(self._count() if size is None else constant(np.array([size], np.int64)))
        return self.node(
            "Expand", [value, self.node("Concat", sizes, (len(shape),), axis=0)], shape
        )

    def _count(self) -> Value:
        """Return the number of images, (1,) int64."""
        if self._batch is None:
            self._batch = self.node("Shape", [self.images], (1,), start=0, end=1)
        return self._batch

    def _name(self, value: Value) -> str:
        from onnx import numpy_helper

        if value.array is None:
            return value.name
        array = np.ascontiguousarray(value.array)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"c{len(self._constants)}")
        name: str = self._constants[key].name
        return name

    def model(self, outputs: dict[str, Value], metadata: dict[str, str]) -> Any:
        """Return the model.

        Args:
            outputs: float32 values by the names they get.
            metadata: text that goes with the model.
        """
        from onnx import TensorProto, helper

        for name, value in outputs.items():
            self._nodes.append(helper.make_node("Identity", [self._name(value)], [name]))

        def described(name: str, shape: Shape) -> Any:
            sizes = [BATCH if size is None else size for size in shape]
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

        graph = helper.make_graph(
            self._nodes,
            "vision_jax",
            [described(INPUT, self.images.shape)],
            [described(name, value.shape) for name, value in outputs.items()],
            [*self._constants.values()],
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="vision_jax"
        )
        helper.set_model_props(model, metadata)
        return model
