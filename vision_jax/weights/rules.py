"""The language of mappings: rules from the names of another library's tensors to ours."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vision_jax.weights import layouts
from vision_jax.weights.preprocessing import TORCHVISION, Preprocessing

Tensor = np.ndarray


@dataclass(frozen=True)
class Rule:
    r"""Where the tensors go whose names match a pattern.

    Attributes:
        name: Regular expression of the whole name in the file.
        path: Path of the parameter here, dots as levels, with `\1` and so on for the groups; or a
            function from the match to the path, or to None if there is none. Its last level is
            still the source's, such as `weight`, unless `change` is given.
        change: Lays out the tensor, in place of the framework's convention.
        part: Place among the tensors that are joined along their last axis to one parameter; None
            for a parameter of its own.
    """

    name: str
    path: str | Callable[[re.Match[str]], str | None]
    change: Callable[[Tensor], Tensor] | None = None
    part: int | None = None

    def path_for(self, name: str) -> str | None:
        """Return the path for a tensor's name, or None if the rule is for others."""
        match = re.fullmatch(self.name, name)
        if match is None:
            return None
        return match.expand(self.path) if isinstance(self.path, str) else self.path(match)


SAME_NAMES = (Rule("(.+)", r"\1"),)
"""For a library whose names are those here."""


@dataclass(frozen=True)
class SourceMapping:
    """How one library's tensors become the parameters of one model.

    Attributes:
        source: The library's name, such as "timm".
        head: Path of the kernel whose last axis holds the classes; a file without it has none.
        stem: Path of the kernel whose third axis holds the images' channels.
        rules: The first that matches a tensor's name is taken.
        layout: The framework's convention: from a leaf's name and tensor to those here.
        preprocessing: How images are prepared; an option `image_size` replaces its size.
        options: What the model's constructor is given.
        found: Finds further options in the parameters, by their paths.
        ignored: Regular expressions of names that are of no use here.
        own_size: Whether images are prepared at the size of `preprocessing`, whatever the option
            `image_size`.
        recognizes: Whether the tensors are this library's, where their names are those of others
            too; None if the names tell.
    """

    source: str
    head: str
    stem: str
    rules: tuple[Rule, ...] = SAME_NAMES
    layout: Callable[[str, Tensor], tuple[str, Tensor]] = layouts.pytorch
    preprocessing: Preprocessing = TORCHVISION
    options: Mapping[str, Any] = field(default_factory=dict)
    found: Callable[[Mapping[str, Tensor]], Mapping[str, Any]] | None = None
    ignored: tuple[str, ...] = (r"(.+\.)?num_batches_tracked",)
    own_size: bool = False
    recognizes: Callable[[Mapping[str, Tensor]], bool] | None = None

    def rule_for(self, name: str) -> tuple[Rule, str] | None:
        """Return the rule for a tensor's name and the path that it gives, or None."""
        for rule in self.rules:
            path = rule.path_for(name)
            if path is not None:
                return rule, path
        return None

    def ignores(self, name: str) -> bool:
        """Whether a tensor is of no use here."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)
