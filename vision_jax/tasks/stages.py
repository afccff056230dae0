"""The stages of a model, by one rule for all models: what each of its endpoints depends on."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import Jaxpr, Literal

_SEPARATOR = "/"


def stage_depths(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Count the stages of each parameter and batch statistic, from the head down.

    Each belongs to the first endpoint that depends on it, in the order in which the model lists
    them, and to the head if the last of the backbone's, `embedding` or what the model has as
    `backbone_endpoint`, does not depend on it. Endpoints that add no parameters
    do not count.

    Args:
        model: a linen module with the endpoint `embedding`.
        image_shape: (height, width, channels).

    Returns:
        By path, such as `layer1/0/conv1/kernel`: 0 for the head, 1 for the stage before it, and so
        on.

    Raises:
        ValueError: the model does not take images of this shape.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def backbone(variables: Any, images: jax.Array) -> list[jax.Array]:
        _, endpoints = model.apply(variables, images, train=False)
        names, last = list(endpoints), getattr(model, "backbone_endpoint", "embedding")
        return [endpoints[name] for name in names[: names.index(last) + 1]]

    jaxpr = jax.make_jaxpr(backbone)(variables, images).jaxpr
    embedding = len(jaxpr.outvars) - 1
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    # The last input is the images.
    of_head, stage_of = set(), {}
    for (path, _), outputs in zip(leaves, _outputs(jaxpr), strict=False):
        name = jax.tree_util.keystr(path[1:], simple=True, separator=_SEPARATOR)
        if embedding in outputs:
            stage_of[name] = min(outputs)
        else:
            of_head.add(name)
    stages = sorted(set(stage_of.values()), reverse=True)
    depths = {name: stages.index(stage) + 1 for name, stage in stage_of.items()}
    return depths | dict.fromkeys(of_head, 0)


def _outputs(jaxpr: Jaxpr) -> list[set[int]]:
    """Find the outputs that depend on each input of a traced function, by their places."""
    outputs: dict[Any, set[int]] = defaultdict(set)
    for place, variable in enumerate(jaxpr.outvars):
        outputs[variable].add(place)
    for equation in reversed(jaxpr.eqns):
        reached = set().union(*(outputs[variable] for variable in equation.outvars))
        for variable in equation.invars:
            if not isinstance(variable, Literal):
                outputs[variable] |= reached
    return [outputs[variable] for variable in jaxpr.invars]


def split(tree: Any, chosen: Collection[str]) -> tuple[Any, Any]:
    """Take the parameters of some paths out of a tree.

    Args:
        tree: nested dictionaries.
        chosen: paths within them.

    Returns:
        The other parameters, and the chosen ones; `merge` puts them together again.
    """
    if not chosen:
        return tree, {}
    leaves = flatten_dict(tree, sep=_SEPARATOR)
    parts = (
        {path: leaf for path, leaf in leaves.items() if (path in chosen) == taken}
        for taken in (False, True)
    )
    others, taken = (unflatten_dict(part, sep=_SEPARATOR) for part in parts)
    return others, taken


def merge(others: Any, chosen: Any) -> Any:
    """Put the two parts of a tree together that `split` returned."""
    if not chosen:
        return others
    leaves = flatten_dict(others, sep=_SEPARATOR) | flatten_dict(chosen, sep=_SEPARATOR)
    return unflatten_dict(leaves, sep=_SEPARATOR)
