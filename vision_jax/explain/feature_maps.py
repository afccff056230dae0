"""Gradients at the feature maps of any network that names them as endpoints.

A network is traced and evaluated anew with a change added to one of its maps, so that no model
needs a hook. A vision transformer's map is a reshaped slice of its tokens, which the layers after
it see in place of the map: the change is added to what the map is a view of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var
from jaxtyping import Array, Float

from vision_jax.checked import check_choice
from vision_jax.errors import InputError
from vision_jax.models.cut import compute

Images = Float[Array, "batch height width channels"]
Network = Callable[[Images], tuple[Any, dict[str, Array]]]
"""Images (B, H, W, C) in [0, 1] to `(output, endpoints)`: a model and its weights."""
Score = Callable[[Any, dict[str, Array]], Float[Array, " batch"]]
"""What is explained: `(output, endpoints)` to a number per image."""

_VIEWS = {"reshape", "slice", "squeeze", "transpose", "convert_element_type"}


class Features(NamedTuple):
    """A feature map, and how the scores depend on it.

    Attributes:
        maps: (B, h, w, C) float32.
        gradients: (B, h, w, C) float32, those of each image's score.
    """

    maps: Float[Array, "batch h w channels"]
    gradients: Float[Array, "batch h w channels"]


def feature_gradients(
    network: Network, score: Score, images: Images, layer: str | None = None
) -> Features:
    """Differentiate scores by a feature map.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].
        layer: the map's endpoint; by default the last map that the score depends on. With a class
            token that is the one before the last block.

    Returns:
        The map and the gradients.

    Raises:
        InputError: the network has no feature map, `layer` is none, or the score does not depend
            on it.
    """
    trace = _Trace.of(network, score, images)
    layer = trace.last_map() if layer is None else trace.checked(layer)
    source, views = trace.source(layer)

    def total(change: Array) -> tuple[Array, Array]:
        scores, endpoints = trace.evaluate(images, source, lambda values: values + change)
        return jnp.sum(scores), endpoints[layer]

    aval = source.aval
    gradients, maps = jax.grad(total, has_aux=True)(jnp.zeros(aval.shape, aval.dtype))  # type: ignore[attr-defined]
    gradients = _view(views, gradients)
    return Features(maps.astype(jnp.float32), gradients.astype(jnp.float32))


@dataclass(frozen=True)
class _Trace:
    """A network and a score, traced to an expression (a jaxpr)."""

    closed: Any
    names: tuple[str, ...]

    @classmethod
    def of(cls, network: Network, score: Score, images: Images) -> "_Trace":
        names: list[str] = []

        def run(images: Images) -> tuple[Array, list[Array]]:
            output, endpoints = network(images)
            names.extend(endpoints)
            return score(output, endpoints), [endpoints[name] for name in names]

        return cls(jax.make_jaxpr(run)(images), tuple(names))

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the endpoints that are maps of more than one position."""
        shapes = {name: _shape(variable) for name, variable in self._endpoints.items()}
        return tuple(n for n, s in shapes.items() if len(s) == 4 and s[1] * s[2] > 1)

    def checked(self, layer: str) -> str:
        """Check that an endpoint is a map that the score depends on."""
        maps = self.maps
        if not maps:
            raise InputError(_NO_MAP)
        check_choice(layer, maps, "layer")
        if not self._reaches(layer):
            reached = ", ".join(name for name in maps if self._reaches(name)) or "none"
            raise InputError(
                f"layer is {layer!r}, which the target does not depend on; it depends on {reached}"
            )
        return layer

    def last_map(self) -> str:
        """Find the last map that the score depends on."""
        maps = sorted(self.maps, key=lambda name: self._place(self.source(name)[0]))
        for name in reversed(maps):
            if self._reaches(name):
                return name
        raise InputError(_NO_MAP)

    def source(self, layer: str) -> tuple[Var, list[JaxprEqn]]:
        """Find what a map is a view of, and the steps from there to the map."""
        variable: Any = self._endpoints[layer]
        steps: list[JaxprEqn] = []
        while (equation := self._made_by.get(variable)) and equation.primitive.name in _VIEWS:
            steps.append(equation)
            variable = equation.invars[0]
        return variable, steps[::-1]

    def evaluate(
        self, images: Images, source: Var, change: Callable[[Array], Array], consts: Any = None
    ) -> tuple[Array, dict[str, Array]]:
        """Compute scores and endpoints with one value changed as it arises."""
        jaxpr = self.closed.jaxpr
        values: dict[Any, Any] = dict(
            zip(jaxpr.constvars, self.closed.consts if consts is None else consts, strict=True)
        )
        values[jaxpr.invars[0]] = images
        place = self._place(source) + 1
        compute(jaxpr.eqns[:place], values)
        values[source] = change(values[source])
        compute(jaxpr.eqns[place:], values)
        scores, *endpoints = (v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars)
        return scores, dict(zip(self.names, endpoints, strict=True))

    @cached_property
    def _endpoints(self) -> dict[str, Var]:
        return dict(zip(self.names, self.closed.jaxpr.outvars[1:], strict=True))

    @cached_property
    def _made_by(self) -> dict[Var, JaxprEqn]:
        return {v: equation for equation in self.closed.jaxpr.eqns for v in equation.outvars}

    def _place(self, variable: Var) -> int:
        made = (variable in equation.outvars for equation in self.closed.jaxpr.eqns)
        return next((place for place, is_made in enumerate(made) if is_made), -1)

    def _reaches(self, layer: str) -> bool:
        """Whether the score depends on a map."""
        source, views = self.source(layer)
        reached = {source}
        for equation in self.closed.jaxpr.eqns:
            if any(v in reached for v in equation.invars if not isinstance(v, Literal)):
                reached |= set(equation.outvars)
        if source not in self._made_by or self.closed.jaxpr.outvars[0] not in reached:
            return False
        return all(step.primitive.name != "slice" for step in views) or self._spreads(source, views)

    def _spreads(self, source: Var, views: list[JaxprEqn]) -> bool:
        """Whether NaN in the part of a value that a map is a view of reaches the score.

        A score taken from the class token depends on the tokens after the last block, and yet not
        on those of the patches. Weights are drawn, since a trace may hold none.
        """
        aval: Any = source.aval
        tokens = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        take = partial(_view, views)
        seen = jax.eval_shape(take, tokens)
        draw = np.random.default_rng(0)

        def drawn(value: Any) -> np.ndarray:
            if jnp.issubdtype(value.dtype, jnp.floating):
                return np.asarray(draw.uniform(0.1, 1, value.shape), value.dtype)
            return np.zeros(value.shape, value.dtype)

        def scores(consts: Any, images: Images) -> Array:
            (taken,) = jax.linear_transpose(take, tokens)(jnp.ones(seen.shape, seen.dtype))
            tainted = jnp.where(taken > 0, jnp.asarray(jnp.nan, aval.dtype), taken + 1)
            return self.evaluate(images, source, lambda _: tainted, consts)[0]

        with jax.ensure_compile_time_eval():
            images = drawn(self.closed.jaxpr.invars[0].aval)
            result = jax.jit(scores)([drawn(value) for value in self.closed.consts], images)
            return bool(np.isnan(np.asarray(result)).any())


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.aval.shape)


def _view(steps: list[JaxprEqn], values: Array) -> Array:
    for equation in steps:
        values = equation.primitive.bind(values, **equation.params)
    return values


_NO_MAP = (
    "method needs a feature map and the target depends on none of the network's endpoints that is "
    "one; use a method that needs none, such as integrated_gradients or occlusion"
)
