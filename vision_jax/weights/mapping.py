"""Weights of other libraries, renamed and laid out for the models here.

The mappings of a model are in the file of `vision_jax.weights.sources` that is named like the
model's own; `vision_jax.weights.rules` is their language.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vision_jax.checked import check_choice
from vision_jax.errors import InputError
from vision_jax.models import MODELS, build_model, takes
from vision_jax.weights.preprocessing import Preprocessing
from vision_jax.weights.rules import SourceMapping, Tensor

SHOWN = 3
"""How many tensors a message names."""


@dataclass(frozen=True)
class Weights:
    """A network's weights, and what it needs to be built and used as where they come from.

    Attributes:
        variables: `params` and, where the model has any, `batch_stats`: float32 trees of exactly
            the model's shapes.
        options: Arguments of the model's constructor but `mean` and `std`, which `preprocessing`
            has.
        preprocessing: How images are prepared.
        source: The library's name, such as "timm".
    """

    variables: dict[str, Any]
    options: dict[str, Any]
    preprocessing: Preprocessing
    source: str


def load_weights(
    name: str,
    tensors: Mapping[str, Tensor],
    *,
    source: str | None = None,
    prefer: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Weights:
    """Turn another library's tensors into the variables of a model.

    Every tensor is used exactly once, and every variable is filled.

    Args:
        name: The model's name, a key of `MODELS`.
        tensors: The tensors by their names in that library.
        source: The library; None to find it out from the names. Where several give the same
            network, the first of `sources_of` is taken, whose preprocessing it is then.
        prefer: The library to take first among those that give the same network.
        options: Arguments of the model's constructor, which go before those found.

    Returns:
        The weights.

    Raises:
        InputError: The name or source is unknown, the tensors do not fit, the names fit libraries
            whose networks differ, or a value is NaN or infinite.
    """
    mappings = _mappings(name)
    if source is not None:
        check_choice(source, sources_of(name), "source")
        mappings = tuple(mapping for mapping in mappings if mapping.source == source)
    own = [m for m in mappings if m.recognizes is None or m.recognizes(tensors)]
    placements = [_place(mapping, tensors) for mapping in own or mappings]
    fewest = min(len(placement.left) for placement in placements)
    fits = [_fit(name, p, dict(options or {})) for p in placements if len(p.left) == fewest]
    best = min(fits, key=lambda fit: (fit.faults, fit.source != prefer))
    if best.faults:
        raise InputError(f"the tensors do not fit {name} as {best.source}'s: {best.message()}")
    rivals = [fit for fit in fits if not fit.faults and fit.options != best.options]
    if rivals:
        sources = ", ".join(fit.source for fit in (best, *rivals))
        raise InputError(
            f"the names of the tensors fit networks that compute differently; source must say "
            f"which: one of {sources}"
        )
    return best.weights()


def sources_of(name: str) -> tuple[str, ...]:
    """Return the libraries whose weights a model can have.

    Args:
        name: The model's name, a key of `MODELS`.

    Raises:
        InputError: The name is unknown, or no library's weights are known for it.
    """
    return tuple(dict.fromkeys(mapping.source for mapping in _mappings(name)))


def _mappings(name: str) -> tuple[SourceMapping, ...]:
    check_choice(name, tuple(MODELS), "model")
    architecture = MODELS[name].partition(":")[0].rpartition(".")[2]
    place = f"{__package__}.sources.{architecture}"
    if importlib.util.find_spec(place) is None:
        raise InputError(f"model is {name!r}, for which no weights of other libraries are known")
    found: tuple[SourceMapping, ...] = importlib.import_module(place).mappings(name)
    return found


@dataclass
class _Placement:
    """Tensors at the paths that a mapping gives them.

    Attributes:
        mapping: The mapping.
        names: The tensors' names, by path.
        values: The parameters, by path.
        left: Names that no rule is for, or whose path another tensor has.
        wrong: What is said of tensors that cannot be laid out.
    """

    mapping: SourceMapping
    names: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def _place(mapping: SourceMapping, tensors: Mapping[str, Tensor]) -> _Placement:
    placement = _Placement(mapping)
    parts: dict[str, dict[int, tuple[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        if mapping.ignores(name):
            continue
        found = mapping.rule_for(name)
        if found is None:
            placement.left.append(name)
            continue
        rule, path = found
        if not tensor.ndim:  # no parameter is one number
            placement.wrong.append(f"{name} is {tensor.shape}")
            continue
        try:
            if rule.change is None:
                above, _, leaf = path.rpartition(".")
                leaf, value = mapping.layout(leaf, tensor)
                path = f"{above}.{leaf}" if above else leaf
            else:
                value = rule.change(tensor)
        except ValueError:
            placement.wrong.append(f"{name} is {tensor.shape}")
            continue
        place = -1 if rule.part is None else rule.part
        if place in parts.setdefault(path, {}):
            placement.left.append(name)
        else:
            parts[path][place] = name, value
    for path, pieces in parts.items():
        names, values = zip(*(pieces[place] for place in sorted(pieces)), strict=True)
        placement.names[path] = list(names)
        try:
            placement.values[path] = values[0] if len(values) == 1 else np.concatenate(values, -1)
        except ValueError:
            shapes = ", ".join(str(value.shape) for value in values)
            placement.wrong.append(f"{', '.join(names)} are {shapes}, cannot be joined")
    return placement


@dataclass
class _Fit:
    """A placement held against the model.

    Attributes:
        placement: The placement.
        options: The model's options.
        preprocessing: How images are prepared.
        missing: Paths that no tensor is for.
        left: Names of tensors that are not used.
        wrong: What is said of tensors of wrong shapes.
        collections: The collection of each path.
    """

    placement: _Placement
    options: dict[str, Any]
    preprocessing: Preprocessing
    missing: list[str]
    left: list[str]
    wrong: list[str]
    collections: dict[str, str]

    @property
    def source(self) -> str:
        return self.placement.mapping.source

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.left) + len(self.wrong)

    def message(self) -> str:
        parts = {
            "tensors left over": self.left,
            "no tensor for": self.missing,
            "wrong shapes": self.wrong,
        }
        return "; ".join(f"{what}: {_first(names)}" for what, names in parts.items() if names)

    def weights(self) -> Weights:
        flat = {
            (collection, *path.split(".")): _checked(
                path, self.placement.values[path], self.placement.names[path]
            )
            for path, collection in self.collections.items()
        }
        return Weights(unflatten_dict(flat), self.options, self.preprocessing, self.source)


def _fit(name: str, placement: _Placement, options: dict[str, Any]) -> _Fit:
    mapping, values = placement.mapping, placement.values
    found = dict(mapping.options)
    if takes(name, "num_classes"):
        found["num_classes"] = values[mapping.head].shape[-1] if mapping.head in values else 0
    if mapping.found is not None:
        found |= mapping.found(values)
    options = found | options
    stem = values.get(mapping.stem)
    channels = stem.shape[2] if stem is not None and stem.ndim == 4 and stem.size else 3
    preprocessing = mapping.preprocessing.for_channels(channels)
    if "image_size" in options and not mapping.own_size:
        preprocessing = replace(preprocessing, image_size=options["image_size"])
    needed = _needed(name, options, preprocessing.image_size, channels)
    wrong = [
        f"{', '.join(placement.names[path])} makes {path} {value.shape}, needs {needed[path][1]}"
        for path, value in values.items()
        if path in needed and value.shape != needed[path][1]
    ]
    return _Fit(
        placement,
        options,
        preprocessing,
        [path for path in needed if path not in placement.names],
        placement.left
        + [one for path, names in placement.names.items() if path not in needed for one in names],
        placement.wrong + wrong,
        {path: collection for path, (collection, _) in needed.items()},
    )


def _needed(
    name: str, options: dict[str, Any], image_size: int, channels: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the collection and shape of each path of a model."""
    model = build_model(name, **options)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, channels), jnp.float32)
    try:
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
    except ValueError as error:
        raise InputError(f"{name} cannot be built with {options}: {error}") from error
    return {
        ".".join(path): (collection, leaf.shape)
        for (collection, *path), leaf in flatten_dict(variables).items()
    }


def _checked(path: str, value: Tensor, names: Sequence[str]) -> Tensor:
    """Return a parameter as float32, if its values can be used."""
    what = ", ".join(names)
    if not np.issubdtype(value.dtype, np.floating):
        raise InputError(f"{what} is of {value.dtype}, needs floating-point numbers")
    with np.errstate(over="ignore"):  # infinite then, which is refused
        value = np.ascontiguousarray(value, np.float32)
    if not np.isfinite(value).all():
        raise InputError(f"{what} holds NaN or infinite values")
    if path.rpartition(".")[2] == "var" and value.min(initial=0) < 0:
        raise InputError(f"{what} holds the variance {value.min()}, needs values of 0 or more")
    return value


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
