"""Exact search of a gallery that is larger than device memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vision_jax.errors import InputError
from vision_jax.search import arrays
from vision_jax.search.arrays import ArrayLike
from vision_jax.search.kernel import merge
from vision_jax.search.min_score import MinScore, at_least, check_min_score
from vision_jax.search.similarity import masked_top_k


def streamed_top_k(
    queries: ArrayLike,
    gallery: ArrayLike,
    k: SupportsIndex,
    *,
    block: SupportsIndex = 1 << 16,
    min_score: MinScore | None = None,
) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
    """Find as `cosine_top_k` does, in a gallery that stays in host memory or in a mapped file.

    While the device searches one block, the next is read and sent: it never holds more than two.

    Args:
        queries: (Q, D) real numbers, any scale.
        gallery: (N, D) real numbers, such as `np.load(path, mmap_mode="r")`; half-precision floats
            are sent as they are, all else as float32.
        k: At least 1.
        block: Gallery rows per transfer, at least 1.
        min_score: As for `cosine_top_k`.

    Returns:
        `(scores, ids)`, (Q, k) float32 and int64.

    Raises:
        InputError: If an argument is no matrix of real numbers, the widths differ, k or block is
            less than 1, or min_score is no cosine.
    """
    check_min_score(min_score)
    k, block = arrays.count("k", k), arrays.count("block", block)
    asked = jnp.asarray(arrays.vectors("queries", queries))
    rows = arrays.matrix("gallery", gallery)
    if asked.shape[1] != rows.shape[1]:
        raise InputError(
            f"queries has shape {asked.shape} and gallery {rows.shape}; the same width is needed"
        )
    scores = jnp.full((len(asked), k), -jnp.inf, jnp.float32)
    ids = np.zeros((len(asked), k), np.int64)
    for start, part, filled in _blocks(rows, block):
        scores, places, old = _step(asked, part, filled, scores, k)
        # Row numbers beyond int32 live on the host, since int64 may be off on the device.
        chosen = np.asarray(old)
        kept = np.take_along_axis(ids, np.maximum(chosen, 0), 1)
        ids = np.where(chosen >= 0, kept, np.asarray(places) + start)
    best = np.asarray(scores)
    return at_least((best, np.where(np.isneginf(best), -1, ids)), min_score)


@partial(jax.jit, static_argnums=4)
def _step(
    queries: Array, rows: Array, filled: Array, scores: Array, k: int
) -> tuple[Array, Array, Array]:
    """Merge a block into the best so far, and say which came from where."""
    where = jnp.arange(rows.shape[0], dtype=jnp.int32)[None] < filled
    fresh, places = masked_top_k(queries, rows, where, k)
    old = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), scores.shape)
    best, source = merge((scores, old), (fresh, jnp.full_like(old, -1)), k)
    _, place = merge((scores, jnp.zeros_like(old)), (fresh, places), k)
    return best, place, source


def _blocks(gallery: np.ndarray, block: int) -> Iterator[tuple[int, Array, int]]:
    size = min(block, len(gallery))

    dtype = gallery.dtype if gallery.dtype in arrays.HALF else np.float32

    def read(start: int) -> tuple[int, Array, int]:
        with np.errstate(over="ignore"):  # infinite, and never found
            rows = np.array(gallery[start : start + size], dtype)
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
