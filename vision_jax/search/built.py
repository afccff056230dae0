"""The search methods that an index has built, and what it keeps of them over changes."""

import inspect
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Int

from vision_jax.errors import DataWarning, InputError
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.graph import Fit, Graph
from vision_jax.search.lock import ReadWriteLock
from vision_jax.search.methods import METHODS, find_method
from vision_jax.search.protocol import Method

_FORMER = "former"  # argument of a build that can start from what there was before a change
_GRAPH = "hnsw"


class BuiltMethods:
    """Methods by name, each built once for all threads when it is first asked for.

    `changed` and `moved` must have the index to themselves; the rest may run in many threads.

    Attributes:
        current: The methods built since the last change.
    """

    def __init__(self) -> None:
        self.current: dict[str, Method] = {}
        self._former: dict[str, Method | Graph] = {}  # the latest before it
        self._recall: float | None = None  # asked of the graph before vectors moved
        self._building = {name: ReadWriteLock() for name in METHODS}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"current": {}, "_former": {}}  # built again by the copy

    @property
    def fit(self) -> Fit | None:
        """What was measured of the graph, if there is one."""
        return getattr(self.current.get(_GRAPH) or self._former.get(_GRAPH), "fit", None)

    def get(
        self,
        name: str,
        rows: DeviceRows,
        slots: Int[np.ndarray, " items"],
        options: dict[str, Any] | None = None,
    ) -> Method:
        """Return a method.

        Args:
            name: Of the method.
            rows: The index's rows.
            slots: (N,) the slots of its vectors, in the order of their ids.
            options: Of how it is built; with any it is built anew.

        Raises:
            InputError: If there is no such method or option.
        """
        built = self.current.get(name)
        if built is not None and not options:
            return built
        build = find_method(name)
        if name == "approximate":
            from vision_jax.search.approximate import choose

            return self.get(choose(len(slots)), rows, slots, options)
        check_options(name, build, options or {})
        with self._building[name].writing():
            if options or name not in self.current:
                self.current[name] = self._build(name, build, rows, slots, options or {})
            return self.current[name]

    def _build(
        self,
        name: str,
        build: Callable[..., Method],
        rows: DeviceRows,
        slots: Int[np.ndarray, " items"],
        options: dict[str, Any],
    ) -> Method:
        if _FORMER not in inspect.signature(build).parameters:
            return build(rows, slots, **options)
        former = self.current.get(name) or self._former.get(name)
        if former is None and self._recall is not None:
            options = {"recall": self._recall} | options
        if not isinstance(former, Graph):  # which nothing writes into
            self._former.pop(name, None)
        built = build(rows, slots, former=former, **options)
        self._former.pop(name, None)
        return built

    def changed(self) -> None:
        """Forget what was built for the vectors as they were."""
        if built := self.current.get(_GRAPH):
            self._former[_GRAPH] = built
        self.current = {}

    def moved(self) -> None:
        """Forget also what is known by slots, which are other vectors' now.

        That there was a graph, and of which recall, stays known.
        """
        self._recall = self.fit.target if self.fit else self._recall
        self.current, self._former = {}, {}

    def restore(self, graph: Graph) -> None:
        """Take the graph of a file, whose rows are the first slots."""
        self._former[_GRAPH] = graph

    def graph(
        self, rows: DeviceRows, slots: Int[np.ndarray, " items"], filled: int
    ) -> Graph | None:
        """Return the graph of the vectors as they are now, if there is one.

        Args:
            rows: The index's rows.
            slots: As for `get`.
            filled: How many slots are filled, those of removed vectors included.
        """
        held = self.current.get(_GRAPH) or self._former.get(_GRAPH)
        if held is None and self._recall is None:
            return None
        if isinstance(held, Graph) and len(held.levels) == len(slots) == filled:
            return held
        try:
            method: Any = self.get(_GRAPH, rows, slots)
        except InputError as error:  # the package is missing
            warnings.warn(f"saved without the graph: {error}", DataWarning, stacklevel=3)
            return None
        if not method.is_whole:
            method = self.current[_GRAPH] = method.renewed()
        graph: Graph | None = method.graph()
        return graph


def check_options(name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse options that a method's `search`, or what builds it, does not have.

    Raises:
        InputError: There is one.
    """
    known = _known(getattr(function, "__func__", function))
    if unknown := options.keys() - set(known):
        raise InputError(
            f"{min(unknown)!r} is no option of method {name!r}; "
            + (f"it has {', '.join(known)}" if known else "it has none")
        )


@cache  # reading a signature takes longer than a search
def _known(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [
        option.name
        for option in parameters
        if option.kind is option.KEYWORD_ONLY and option.name != _FORMER
    ]
