"""Cut a network at one of its maps: feed the part behind it another map."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal
from jaxtyping import Array, Float

from vision_jax.models.layers import STAGE

Apply = Callable[[Any, Array], tuple[Any, dict[str, Array]]]
Vector = Float[Array, " dim"]


class Cut(NamedTuple):
    """A place where a network can be cut.

    Attributes:
        equation: which step of the traced network makes the map.
        shape: of the map of one image: (1, h, w, C), or (1, tokens, C).
    """

    equation: int
    shape: tuple[int, ...]


class Traced:
    """A network traced for one image, whose maps can be replaced.

    Args:
        apply: `(state, images) -> (output, endpoints)`; pure.
        state: its state, or the shapes of one.
        image_shape: (height, width, channels).
    """

    def __init__(self, apply: Apply, state: Any, image_shape: tuple[int, ...]) -> None:
        image = jax.ShapeDtypeStruct((1, *image_shape), jax.numpy.float32)
        self._jaxpr, shapes = jax.make_jaxpr(apply, return_shape=True)(state, image)
        names = [
            path[1].key if path[0].idx == 1 else None
            for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
        ]
        outputs = self._jaxpr.jaxpr.outvars
        self._named: dict[str, Any] = {
            name: var for name, var in zip(names, outputs, strict=True) if name
        }

    def shape(self, endpoint: str) -> tuple[int, ...] | None:
        """Return the shape of an endpoint, or None if there is none of that name."""
        return tuple(self._named[endpoint].aval.shape) if endpoint in self._named else None

    def cuts(self) -> Iterator[Cut]:
        """Yield where the network can be cut on its way to the embedding, the last first.

        That is behind each stage, and at `features` and other endpoints of three or four axes.
        """
        named = {id(var) for var in self._named.values()}
        equations = self._jaxpr.jaxpr.eqns
        needed = {id(self._named["embedding"])}
        for number in reversed(range(len(equations))):
            equation = equations[number]
            if not any(id(var) in needed for var in equation.outvars):
                continue
            first: Any = equation.outvars[0]
            is_stage = equation.primitive.name == "name" and equation.params["name"] == STAGE
            if (is_stage or id(first) in named) and len(first.aval.shape) in (3, 4):
                yield Cut(number, tuple(first.aval.shape))
            needed |= {id(var) for var in equation.invars if not isinstance(var, Literal)}

    def split(self, cut: Cut, state: Any, image: Array) -> tuple[Array, Callable[[Array], Vector]]:
        """Compute one image's map at a cut.

        Args:
            cut: one of `cuts`.
            state: the network's state.
            image: (H, W, C) float32 in [0, 1].

        Returns:
            The map, and the rest of the network: from a map of that shape to the embedding (D,).
        """
        jaxpr = self._jaxpr.jaxpr
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, self._jaxpr.consts, strict=True))
        values |= zip(jaxpr.invars, jax.tree.leaves((state, image[None])), strict=True)
        before, after = jaxpr.eqns[: cut.equation + 1], jaxpr.eqns[cut.equation + 1 :]
        compute(before, values)
        place = jaxpr.eqns[cut.equation].outvars[0]

        def rest(other: Array) -> Vector:
            changed = values | {place: other}
            compute(after, changed)
            embedding: Array = changed[self._named["embedding"]][0]
            return embedding

        return values[place], rest


def compute(equations: Sequence[Any], values: dict[Any, Any]) -> None:
    """Evaluate equations in order, adding what they make to the values of variables.

    Args:
        equations: steps of a traced function.
        values: of the variables that they take; changed in place.
    """
    for equation in equations:
        inputs = [v.val if isinstance(v, Literal) else values[v] for v in equation.invars]
        primitive = equation.primitive
        made = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
        made = made if primitive.multiple_results else [made]
        values |= zip(equation.outvars, made, strict=True)
