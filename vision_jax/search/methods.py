"""The table of search methods.

A new method is one file and one line here: a function of the index's rows and the slots of its
vectors, which returns a `protocol.Method`.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vision_jax.errors import InputError

if TYPE_CHECKING:
    from vision_jax.search.protocol import Build

METHODS = {
    "exact": "vision_jax.search.exact:Exact",
    "approximate": "vision_jax.search.approximate:build",
    "hnsw": "vision_jax.search.hnsw:build",
    "inverted_file": "vision_jax.search.inverted_file:build",
    "approx_max_k": "vision_jax.search.approx_max_k:build",
    "sharded": "vision_jax.search.sharded:build",
}
"""Search methods by name: where the function is that builds one. Imported when first asked for."""

TARGET = 0.97  # recall of the 10 nearest by vectors of the gallery: 0.95 is promised for others
CHECKED = 256  # vectors of the gallery by which an approximate method measures it
LARGE = 10_000  # vectors from which a gallery is expected to be searched faster than exactly

_PACKAGES = {"hnsw": ("faiss", "ann")}
"""Packages that some methods take, and the extras that bring them."""


def find_method(name: str) -> "Build":
    """Return the function that builds a method.

    Raises:
        InputError: If there is no such method, or a package is missing that it takes.
    """
    check_method(name)
    module, _, function = METHODS[name].partition(":")
    build: Build = getattr(importlib.import_module(module), function)
    return build


def check_method(name: str) -> None:
    """Refuse a method that is none, or takes a package that is missing.

    Raises:
        InputError: It does.
    """
    if name not in METHODS:
        raise InputError(f"method is {name!r}; one of {', '.join(METHODS)} is needed")
    if not is_installed(name):
        package, extra = _PACKAGES[name]
        raise InputError(
            f"method is {name!r}, which takes the package {package}: "
            f"pip install 'vision_jax[{extra}]'"
        )


def is_installed(name: str) -> bool:
    """Whether what a method takes is there."""
    return name not in _PACKAGES or find_spec(_PACKAGES[name][0]) is not None


def check_kept(name: str | None, recall: float | None = None) -> None:
    """Refuse a method that an index file does not keep, and a recall that none reaches.

    Raises:
        InputError: It is one, `recall` is outside (0, 1] or without a method, or a package is
            missing.
    """
    if name is None:
        if recall is not None:
            raise InputError(f"recall is {recall}, but method is None; 'hnsw' is needed")
        return
    if name != "hnsw":
        raise InputError(f"method is {name!r}; a file keeps that of 'hnsw' alone")
    check_method(name)
    check_recall(recall)


def check_recall(recall: Any) -> None:
    """Refuse a recall to reach that is none; None stands for the default.

    Raises:
        InputError: It is not in (0, 1].
    """
    if recall is None:
        return
    if isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 < recall <= 1:
        raise InputError(f"recall is {recall!r}; a share in (0, 1], such as 0.97, is needed")
