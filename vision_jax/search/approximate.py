"""The approximate method that suits a gallery and the machine."""

import jax
import numpy as np
from jaxtyping import Int

from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.methods import LARGE, find_method, is_installed
from vision_jax.search.protocol import Method


def build(rows: DeviceRows, slots: Int[np.ndarray, " items"]) -> Method:
    """Build the method that `choose` names; see `protocol.Build`."""
    return find_method(choose(len(slots)))(rows, slots)


def choose(count: int) -> str:
    """Return which method searches `count` vectors fastest.

    Below 10,000 vectors that is exact search; above, HNSW on a CPU where FAISS is installed, and
    the inverted file elsewhere.
    """
    if count < LARGE:
        return "exact"
    if jax.default_backend() == "cpu" and is_installed("hnsw"):
        return "hnsw"
    return "inverted_file"
