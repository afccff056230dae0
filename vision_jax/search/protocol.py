"""What every index and every search method does."""

from collections.abc import Callable
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from vision_jax.search.arrays import ArrayLike
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.filters import Where

Found = tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]
"""`(scores, ids)`: cosines, best first, and what they belong to; missing places -inf and -1."""


@runtime_checkable
class Index(Protocol):
    """Vectors that come and go, and the search among them.

    Whatever takes an `Index` works with every index and, through `CosineIndex.search(method=…)`,
    with every search method.

    >>> import numpy as np
    >>> from vision_jax.search import CosineIndex, Index
    >>> def nearest(index: Index, query: list[float]) -> int:
    ...     scores, ids = index.search([query], k=1)
    ...     return int(ids[0, 0])
    >>> index = CosineIndex(2)
    >>> isinstance(index, Index)
    True
    >>> added = index.add([[1, 0], [0, 1]])
    >>> nearest(index, [0.1, 3.0])
    1
    >>> index.remove([1])
    >>> len(index), nearest(index, [0.1, 3.0])
    (1, 0)
    """

    def add(self, vectors: ArrayLike, ids: ArrayLike | None = None) -> Int[np.ndarray, " rows"]:
        """Add vectors (M, D), and return their ids (M,)."""

    def remove(self, ids: ArrayLike) -> None:
        """Remove the vectors with these ids."""

    def search(
        self,
        queries: ArrayLike,
        k: SupportsIndex,
        where: Where | None = None,
        *,
        min_score: Any = None,
    ) -> Found:
        """Find the k nearest vectors of each query (Q, D), among those that `where` allows.

        Places below `min_score`, a cosine, stay empty.
        """

    def __len__(self) -> int:
        """Count the vectors."""


@runtime_checkable
class Method(Protocol):
    """One way of searching vectors that stay as they are.

    An index builds it from its vectors, numbered in the order of their ids, and builds it again
    after a change. Searches from several threads must not disturb each other. Options of a search
    are further keyword-only arguments.
    """

    def search(
        self,
        queries: Float[np.ndarray, "queries dim"],
        k: int,
        where: Bool[np.ndarray, "masks items"] | None = None,
    ) -> Found:
        """Find the k nearest vectors of each query.

        Args:
            queries: (Q, D) float32, Q at least 1, each with a direction, not normalised.
            k: In [1, N].
            where: (1, N) or (Q, N), which vectors may be found; None for all.

        Returns:
            `(scores, places)`, both (Q, k): places in [0, N), -1 where there is none.
        """


Build = Callable[[DeviceRows, Int[np.ndarray, " items"]], Method]
"""Builds a method from an index's rows and the slots of its N vectors, in the order of ids."""
