"""Exact search of a gallery that is larger than device memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from vision_jax.search.kernel import merge
from vision_jax.search.similarity import masked_top_k


def streamed_top_k(
    queries: Float[Array | np.ndarray, "queries dim"],
    gallery: Shaped[np.ndarray, "items width"],
    k: int,
    *,
    block: int = 1 << 16,
) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
    """Do as `cosine_top_k` for a gallery that stays on the host, in memory or in a mapped file.

    While the device searches one block, the next is read and sent: never more than two are there.

    Args:
        queries: (Q, D), any scale.
        gallery: (N, D) float32 or bfloat16, such as `np.load(path, mmap_mode="r")`.
        k: At least 1.
        block: Gallery rows per transfer.

    Returns:
        `(scores, ids)`, (Q, k) float32 and int64.

    Raises:
        ValueError: if the widths differ, or k or block is less than 1.
    """
    if k < 1 or block < 1:
        raise ValueError(f"k and block must be at least 1, got {k} and {block}")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries and gallery must have the same width, got {queries.shape} and {gallery.shape}"
        )
    asked = jnp.asarray(queries, jnp.float32)
    count = len(queries)
    scores = jnp.full((count, k), -jnp.inf, jnp.float32)
    ids = np.zeros((count, k), np.int64)
    for start, rows, filled in _blocks(gallery, block):
        scores, places, old = _step(asked, rows, filled, scores, k)
        # Row numbers beyond int32 live on the host, since int64 may be off on the device.
        chosen = np.asarray(old)
        kept = np.take_along_axis(ids, np.maximum(chosen, 0), 1)
        ids = np.where(chosen >= 0, kept, np.asarray(places) + start)
    return np.asarray(scores), np.where(np.isneginf(np.asarray(scores)), -1, ids)


@partial(jax.jit, static_argnums=4)
def _step(
    queries: Array, rows: Array, filled: Array, scores: Array, k: int
) -> tuple[Array, Array, Array]:
    """Merge a block into the best so far; say which came from where."""
    where = jnp.arange(rows.shape[0], dtype=jnp.int32)[None] < filled
    fresh, places = masked_top_k(queries, rows, where, k)
    old = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), scores.shape)
    best, source = merge((scores, old), (fresh, jnp.full_like(old, -1)), k)
    _, place = merge((scores, jnp.zeros_like(old)), (fresh, places), k)
    return best, place, source


def _blocks(gallery: np.ndarray, block: int) -> Iterator[tuple[int, Array, int]]:
    size = min(block, len(gallery))

    def read(start: int) -> tuple[int, Array, int]:
        rows = np.array(gallery[start : start + size])
        filled = len(rows)
        if filled < size:
            rows = np.pad(rows, ((0, size - filled), (0, 0)))
        return start, jax.device_put(rows), filled

    starts = range(0, len(gallery), max(1, size))
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(read, start) for start in starts[:1]]
        for following in [*starts[1:], None]:
            if not pending:
                return
            ready = pending.pop().result()
            if following is not None:
                pending.append(pool.submit(read, following))
            yield ready
