"""Exact search beside PyTorch's product and top-k, and the inverted file beside exact search."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from on_device import peers
from on_device.clock import Section, timed
from vision_jax.search import CosineIndex, InvertedFile, cosine_top_k

K = 10
DIM = 128
CENTRES, SPREAD = 1000, 0.5  # that approximate search finds rows around; the deviation of a row
PROBES = (8, 64)


def unit_rows(count: int, seed: int) -> jax.Array:
    """Draw rows of length 1 on the device."""

    @jax.jit
    def draw(key: jax.Array) -> jax.Array:
        rows = jax.random.normal(key, (count, DIM))
        return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)

    return draw(jax.random.key(seed))


def clustered(count: int, seed: int) -> jax.Array:
    """Draw rows of length 1 around centres, the same for every seed, on the device."""

    @jax.jit
    def draw(key: jax.Array) -> jax.Array:
        centres = jax.random.normal(jax.random.key(0), (CENTRES, DIM))
        chosen, apart = jax.random.split(key)
        rows = centres[jax.random.randint(chosen, (count,), 0, CENTRES)]
        rows = rows + SPREAD * jax.random.normal(apart, rows.shape)
        return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)

    return draw(jax.random.key(seed))


def approximate(section: Section, items: int, counts: tuple[int, ...], *, rounds: int) -> None:
    """Time the inverted file beside exact search; how far they agree is its recall.

    Args:
        section: where figures go.
        items: rows of the gallery.
        counts: numbers of queries, rising.
        rounds: turns of each contender.
    """
    gallery = section.attempt(f"{items:,} rows", clustered, items, 1)
    if gallery is None:
        return
    rows = np.asarray(gallery)
    file, seconds = timed(lambda: InvertedFile(rows, nprobe=PROBES[0]))
    section.note(f"InvertedFile divided {items:,} rows into {file.nlist} lists in {seconds:.1f} s")
    before: dict[str, tuple[int, float]] = {}
    for count in counts:
        queries = np.asarray(clustered(count, 2))
        searches: dict[str, Callable[[], Any]] = {"ours, cosine_top_k": _pure(queries, gallery)}
        for probed in PROBES:
            name = f"ours, InvertedFile, {probed} of {file.nlist} lists"
            searches[name] = partial(_probe, file, queries, probed)
        _time(section, items, count, searches, before, rounds)


def compare(
    section: Section,
    items: int,
    counts: tuple[int, ...],
    device: str | None,
    *,
    rounds: int,
    index: bool,
) -> None:
    """Time searches for several numbers of queries, each of which ends with ids on the host.

    Args:
        section: where figures go.
        items: rows of the gallery.
        counts: numbers of queries, rising.
        device: PyTorch's; None without it.
        rounds: turns of each contender.
        index: whether `CosineIndex` takes part, which holds the rows once more.
    """
    gallery = section.attempt(f"{items:,} rows", unit_rows, items, 1)
    if gallery is None:
        return
    rows = _shared(gallery, device) if device else None
    held = section.attempt("CosineIndex", _index, section, gallery) if index else None
    before: dict[str, tuple[int, float]] = {}
    for count in counts:
        queries = np.asarray(unit_rows(count, 2))
        searches: dict[str, Callable[[], Any]] = {"ours, cosine_top_k": _pure(queries, gallery)}
        if held is not None:
            searches["ours, CosineIndex"] = lambda queries=queries: held.search(queries, K)[1]
        if device:
            for name, tf32 in (("float32", False), ("TF32", True)):
                if device == "cuda" or not tf32:
                    search = peers.top_k(rows, queries, K, device, tf32)
                    searches[f"PyTorch, {name} product and topk"] = search
        _time(section, items, count, searches, before, rounds)


def _time(
    section: Section,
    items: int,
    count: int,
    searches: dict[str, Callable[[], Any]],
    before: dict[str, tuple[int, float]],
    rounds: int,
) -> None:
    """Time some searches in turns; leave out those that would take longer than there is time."""
    found: dict[str, np.ndarray] = {}
    firsts: dict[str, float] = {}
    for name, search in searches.items():
        fewer, seconds = before.get(name, (count, 0.0))
        what = f"{name}, {count:,} of {items:,}"
        if not section.has_time(what, seconds * count / fewer):
            continue
        returned = section.attempt(what, lambda search=search: timed(search))
        if returned is not None:
            found[name], firsts[name] = returned
    turns: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds):
        for name in found:
            if number == 0 or section.left > turns[name][0]:
                turns[name].append(timed(searches[name])[1])
    truth = next(iter(found.values()), None)
    for name, rows in found.items():
        taken = float(np.median(turns[name]))
        before[name] = (count, taken)
        section.rows.append(
            {"items": items, "queries": count, "contender": name, "k": K, "seconds": taken}
            | {"queries_per_second": count / taken, "first_seconds": firsts[name]}
            | {"gallery_gb_per_second": items * DIM * 4 / taken / 1e9}
            | {"agrees_with_ours": float((rows[:, :, None] == truth[:, None]).any(1).mean())}
        )


def _pure(queries: np.ndarray, gallery: jax.Array) -> Callable[[], np.ndarray]:
    asked = jnp.asarray(queries)
    return lambda: np.asarray(cosine_top_k(asked, gallery, K, normalized=True)[1])


def _probe(file: InvertedFile, queries: np.ndarray, probed: int) -> np.ndarray:
    return file.search(queries, K, nprobe=probed)[1]


def _index(section: Section, gallery: jax.Array) -> CosineIndex:
    index = CosineIndex(DIM)
    rows = np.asarray(gallery)
    _, seconds = timed(lambda: index.add(rows))
    section.note(f"CosineIndex took {len(rows):,} rows from host memory in {seconds:.1f} s")
    return index


def _shared(gallery: jax.Array, device: str) -> Any:
    """Give PyTorch the same rows, in place where both use the device."""
    import torch

    return torch.from_dlpack(gallery) if device == "cuda" else torch.from_numpy(np.array(gallery))
