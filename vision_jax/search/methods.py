"""The table of search methods.

A new method is one file and one line here: a function of the index's rows and the slots of its
vectors, which returns a `protocol.Method`.
"""

import importlib
from typing import TYPE_CHECKING

from vision_jax.errors import InputError

if TYPE_CHECKING:
    from vision_jax.search.protocol import Build

METHODS = {
    "exact": "vision_jax.search.exact:Exact",
    "inverted_file": "vision_jax.search.inverted_file:build",
    "approx_max_k": "vision_jax.search.approx_max_k:build",
    "sharded": "vision_jax.search.sharded:build",
}
"""Search methods by name: where the function is that builds one. Imported when first asked for."""


def find_method(name: str) -> "Build":
    """Return the function that builds a method.

    Raises:
        InputError: If there is no such method.
    """
    if name not in METHODS:
        raise InputError(f"method is {name!r}; one of {', '.join(METHODS)} is needed")
    module, _, function = METHODS[name].partition(":")
    build: Build = getattr(importlib.import_module(module), function)
    return build
