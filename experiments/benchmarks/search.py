"""Exact cosine search beside FAISS, PyTorch, USearch, scikit-learn and NumPy.

Command: python experiments/benchmarks/search.py exact
         python experiments/benchmarks/search.py dtypes

Every round runs every contender once, so that a busy moment hits them all. Tables give medians over
rounds and, per contender, the ratio to this project's index. The limit is the float32 product of
two 2048 x 2048 matrices in JAX, measured in the same rounds; "of limit" is the share of it that
2·N·D operations per query make. The memory's rate is that of NumPy's maximum over 512 MiB by a
thread per core, likewise in the same rounds; "of memory" is the share of it at which the vectors
are read once, by `CosineIndex` as int8 where that is fast, and else as float32.

An estimate, not measured, for 10^9 x 128 on TPU v5e (197 TFLOP/s bfloat16, 394 TOP/s int8, 819 GB/s
and 16 GB of memory a chip): int8 rows and scales take 132 GB and the float32 rows for exact
rescoring 512 GB, together 644 GB: 48 chips with 13.4 GB each. The first pass reads 2.75 GB of int8
a chip, 3.4 ms, and multiplies 2·10^9·128/48 = 5.3 GOP a query, 14 us. Memory bounds it up to about
250 queries a pass, the product beyond: about 290 queries/s one by one, 70,000 queries/s at full
rate. Gathering 10 scores and places of 128 queries from 48 chips moves 0.5 MB, microseconds. With
bfloat16 for rescoring (256 GB) 26 chips are enough.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else idle peers keep the cores busy

import jax  # noqa: E402  the environment above must be set before these load
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from vision_jax.search import CosineIndex, cosine_top_k  # noqa: E402
from vision_jax.search.device_rows import multiplies_bytes_fast  # noqa: E402

Search = Callable[[np.ndarray, int], Any]


def main() -> None:
    """Parse the command line and run what it names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what",
        choices=("exact", "dtypes"),
        help="exact: random unit vectors, all contenders; dtypes: float32, bfloat16 and int8 "
        "indexes, their size, speed and recall",
    )
    parser.add_argument("--items", type=int, default=1 << 20, help="gallery size (default 2^20)")
    parser.add_argument("--dim", type=int, default=128, help="width of the vectors (default 128)")
    parser.add_argument("--k", type=int, default=10, help="neighbours (default 10)")
    parser.add_argument(
        "--queries", type=int, nargs="+", default=[1, 16, 128], help="queries per search"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds per table (default 5)")
    parser.add_argument(
        "--peers",
        nargs="*",
        default=list(PEERS),
        help="contenders of `exact` (default: all that are installed)",
    )
    options = parser.parse_args()
    print(f"jax {jax.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    {"exact": exact, "dtypes": dtypes}[options.what](options)


def exact(options: argparse.Namespace) -> None:
    """Time exact search beside the peers, and print the tables."""
    gallery = unit(options.items, options.dim, 0)
    searches: dict[str, Search] = {}
    rows = []
    builders = {"CosineIndex": ours, "cosine_top_k": pure} | {
        peer: PEERS[peer] for peer in options.peers
    }
    for name, build in builders.items():
        before, start = resident(), time.perf_counter()
        try:
            searches[name] = build(gallery)
        except ImportError:
            continue
        rows.append([name, f"{time.perf_counter() - start:.2f}", f"{resident() - before:.0f}"])
    table(["contender", "build s", "peak memory grew by, MB"], rows)
    for count in options.queries:
        compare(searches, unit(count, options.dim, 1), gallery, options)


def compare(
    searches: dict[str, Search],
    queries: np.ndarray,
    gallery: np.ndarray,
    options: argparse.Namespace,
) -> None:
    """Have searches take turns, and print their rates and how far they agree."""
    found = {name: search(queries, options.k) for name, search in searches.items()}
    product = limit()
    read, memory = reader()
    times: dict[str, list[float]] = {name: [] for name in [*searches, "limit", "memory"]}
    for _ in range(options.rounds):
        for name, search in searches.items():
            times[name].append(seconds(partial(search, queries, options.k)))
        times["limit"].append(seconds(product))
        times["memory"].append(seconds(read))
    flops = 2 * 2048**3 / np.median(times["limit"])
    bandwidth = memory / np.median(times["memory"])
    mine = np.median(times["CosineIndex"])
    rows = []
    for name in searches:
        taken = np.median(times[name])
        share = 2 * gallery.size * len(queries) / taken / flops
        same = recall(found[name], found["CosineIndex"])
        rate = len(queries) / taken
        in_bytes = name == "CosineIndex" and multiplies_bytes_fast()
        size = gallery.size * (1 if in_bytes else gallery.itemsize)
        passed = f"{size / taken / bandwidth:.0%}"
        rows.append(
            [name, f"{rate:.1f}", f"{taken / mine:.2f}", f"{share:.0%}", passed, f"{same:.4f}"]
        )
    print(
        f"{len(queries)} queries of {len(gallery):,} x {gallery.shape[1]}, k = {options.k}; "
        f"limit {flops / 1e9:.0f} GFLOP/s, memory {bandwidth / 1e9:.1f} GB/s, {options.rounds} "
        f"rounds, load average {os.getloadavg()[0]:.1f}\n"
    )
    header = ["contender", "queries/s", "CosineIndex is x times faster", "of limit", "of memory"]
    table([*header, "agrees"], rows)


def dtypes(options: argparse.Namespace) -> None:
    """Time `CosineIndex` by the type of its numbers."""
    gallery = unit(options.items, options.dim, 0)
    indexes = {}
    for name in ("float32", "bfloat16", "int8"):
        indexes[name] = CosineIndex(options.dim, dtype=name)
        indexes[name].add(gallery)
    for count in options.queries:
        queries = unit(count, options.dim, 1)
        found = {name: index.search(queries, options.k)[1] for name, index in indexes.items()}
        times: dict[str, list[float]] = {name: [] for name in indexes}
        for _ in range(options.rounds):
            for name, index in indexes.items():
                times[name].append(seconds(partial(index.search, queries, options.k)))
        print(f"{count} queries\n")
        table(
            ["dtype", "MB", "queries/s", f"recall@{options.k}"],
            [
                [
                    name,
                    f"{indexes[name].nbytes / 1e6:.0f}",
                    f"{count / np.median(times[name]):.1f}",
                    f"{recall(found[name], found['float32']):.4f}",
                ]
                for name in indexes
            ],
        )


def ours(gallery: np.ndarray) -> Search:
    """Search by `CosineIndex`."""
    index = CosineIndex(gallery.shape[1])
    index.add(gallery)
    return lambda queries, k: index.search(queries, k)[1]


def pure(gallery: np.ndarray) -> Search:
    """Search by `cosine_top_k` on rows on the device."""
    rows = jnp.asarray(gallery)
    return lambda queries, k: np.asarray(
        cosine_top_k(jnp.asarray(queries), rows, k, normalized=True)[1]
    )


def faiss_flat(gallery: np.ndarray) -> Search:
    """Search by FAISS's exact index."""
    import faiss

    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return lambda queries, k: index.search(queries, k)[1]


def torch_top_k(gallery: np.ndarray) -> Search:
    """Search by PyTorch's product and top-k."""
    import torch

    rows = torch.from_numpy(gallery)

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        # Whole, the scores of many queries would not fit; 128 at a time is its best here.
        parts = torch.from_numpy(queries).split(128)
        return np.concatenate([torch.topk(part @ rows.T, k).indices.numpy() for part in parts])

    return search


def usearch_exact(gallery: np.ndarray) -> Search:
    """Search by USearch, exactly."""
    from usearch.index import MetricKind
    from usearch.index import search as exact_search

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        found = exact_search(gallery, queries, k, MetricKind.IP, exact=True).keys
        return np.asarray(found).astype(np.int64).reshape(len(queries), -1)

    return search


def numpy_partition(gallery: np.ndarray) -> Search:
    """Search by NumPy's product and partition."""

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        parts = []
        for start in range(0, len(queries), 128):
            scores = queries[start : start + 128] @ gallery.T
            best = np.argpartition(scores, -k, axis=1)[:, -k:]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            parts.append(np.take_along_axis(best, order, 1))
        return np.concatenate(parts)

    return search


def scikit_learn(gallery: np.ndarray) -> Search:
    """Search by scikit-learn's brute force."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(metric="cosine", algorithm="brute").fit(gallery)
    return lambda queries, k: model.kneighbors(queries, k, return_distance=False)


PEERS: dict[str, Callable[[np.ndarray], Search]] = {
    "faiss": faiss_flat,
    "torch": torch_top_k,
    "usearch": usearch_exact,
    "scikit-learn": scikit_learn,
    "numpy": numpy_partition,
}


def limit() -> Callable[[], Any]:
    """Return a product of matrices of 2048 x 2048, to hold rates against."""
    square = jnp.asarray(unit(2048, 2048, 2))
    product = jax.jit(lambda a: a @ a)
    return lambda: product(square)


def reader() -> tuple[Callable[[], Any], int]:
    """Return what reads memory as fast as it goes, and how many bytes it reads."""
    threads = os.cpu_count() or 1
    parts = np.array_split(np.ones(1 << 27, np.float32), threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.max, parts)), sum(part.nbytes for part in parts)


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    """Draw random rows of length 1: (count, dim)."""
    rows = np.random.default_rng(seed).standard_normal((count, dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the true neighbours that was found."""
    return float((found[:, :, None] == truth[:, None, :]).any(1).mean())


def seconds(call: Callable[[], Any]) -> float:
    """Time a call up to its result."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def resident() -> float:
    """Return the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(header: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    lines = [header, ["---"] * len(header), *rows]
    print("\n".join("| " + " | ".join(line) + " |" for line in lines), end="\n\n")


if __name__ == "__main__":
    main()
