"""Recall against queries/s by the protocol of ann-benchmarks: one core, one query at a time.

Command: python experiments/benchmarks/approximate.py tight clustered random fashion
Hardware and time: 2 cores of an AMD EPYC (Zen 4; `fashion`: Zen 1), of which one is used; 4 to 5
minutes a data set.

Data: 100,000 unit vectors of width 96, 1,000 other ones as queries, the 10 nearest of each.
`tight` and `clustered` are 1,000 centres with noise around them, 0.8 and 1.5 times as long;
`random` has no structure; `fashion` is Fashion-MNIST's pixels, 60,000 x 784. Every round runs every
contender at every setting for a quarter of a second, so that a busy moment hits them all; rates are
medians over rounds. `at once` is all queries in one call, on the same core. Indexes are built on
all cores.

The contenders have the interface of ann-benchmarks' own harness, so that it can run `VisionJax`:
copy this file and `search.py` into a folder of its `algorithms`, this one as `module.py`, and name
the class in `config.yml`.
"""

import argparse
import gzip
import os
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else idle peers keep the cores busy

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from search import recall, table, unit

from vision_jax.search import CosineIndex, InvertedFile

try:
    from ann_benchmarks.algorithms.base.module import BaseANN
except ImportError:  # not within the harness
    BaseANN = object

FASHION = Path("/usr/share/datasets/fashion-mnist")
K, SECONDS = 10, 0.25
NOISE = {"tight": 0.8, "clustered": 1.5}  # how long, beside centres of length 1


class VisionJax(BaseANN):
    """`CosineIndex`, by one of its methods."""

    option = "ef"

    def __init__(self, metric: str, method: str) -> None:
        assert metric == "angular"
        self.name, self._method, self._options = f"vision_jax {method}", method, {}

    def fit(self, vectors: np.ndarray) -> None:
        self._index = CosineIndex(vectors.shape[1])
        self._index.add(vectors)
        self._index.build(self._method)
        if self._index.graph is not None:
            print(self.name, self._index.graph, flush=True)

    def set_query_arguments(self, *values: int) -> None:
        self._options = dict(zip([self.option], values, strict=False))  # or none

    def query(self, vector: np.ndarray, n: int) -> np.ndarray:
        return self.batch(vector[None], n)[0]

    def batch(self, vectors: np.ndarray, n: int) -> np.ndarray:
        return self._index.search(vectors, n, method=self._method, **self._options)[1]

    def batch_query(self, vectors: np.ndarray, n: int) -> None:
        self._found = self.batch(vectors, n)

    def get_batch_results(self) -> np.ndarray:
        return self._found


class Lists(VisionJax):
    """`InvertedFile` on its own."""

    option = "nprobe"

    def fit(self, vectors: np.ndarray) -> None:
        self._file = InvertedFile(vectors)
        print(self.name, self._file.reports[-1], f"of {self._file.nlist} lists", flush=True)

    def batch(self, vectors: np.ndarray, n: int) -> np.ndarray:
        return self._file.search(vectors, n, **self._options)[1]


class Faiss(VisionJax):
    """FAISS's index of a description, such as `HNSW32`."""

    def __init__(self, metric: str, description: str) -> None:
        super().__init__(metric, description)
        self.name, self._description = f"FAISS {description}", description
        self.option = "efSearch" if "HNSW" in description else "nprobe"

    def fit(self, vectors: np.ndarray) -> None:
        import faiss

        description, metric = self._description, faiss.METRIC_INNER_PRODUCT
        self._faiss = faiss.index_factory(vectors.shape[1], description, metric)
        self._faiss.train(vectors)
        self._faiss.add(vectors)

    def set_query_arguments(self, *values: int) -> None:
        for value in values:
            holder = self._faiss.hnsw if self.option == "efSearch" else self._faiss
            setattr(holder, self.option, value)

    def batch(self, vectors: np.ndarray, n: int) -> np.ndarray:
        return self._faiss.search(vectors, n)[1]


class USearch(VisionJax):
    """USearch's graph, of numbers of one type."""

    def __init__(self, metric: str, dtype: str) -> None:
        super().__init__(metric, dtype)
        self.name, self._dtype = f"USearch {dtype}", dtype

    def fit(self, vectors: np.ndarray) -> None:
        from usearch.index import Index

        self._graph = Index(ndim=vectors.shape[1], metric="cos", dtype=self._dtype)
        self._graph.add(np.arange(len(vectors)), vectors)

    def set_query_arguments(self, *values: int) -> None:
        (self._graph.expansion_search,) = values

    def batch(self, vectors: np.ndarray, n: int) -> np.ndarray:
        keys = self._graph.search(vectors, n, threads=1).keys
        return np.asarray(keys).astype(np.int64).reshape(len(vectors), n)


def contenders(count: int) -> Iterator[tuple[Any, list[tuple[int, ...]]]]:
    """Yield contenders and the settings at which each is run."""
    lists = max(1, round(2 * count**0.5))
    efs: list[tuple[int, ...]] = [(16,), (32,), (64,), (128,), (256,)]
    probes: list[tuple[int, ...]] = [(1,), (2,), (4,), (8,), (16,), (64,)]
    yield VisionJax("angular", "exact"), [()]
    yield Faiss("angular", "Flat"), [()]
    yield VisionJax("angular", "hnsw"), [(), *efs]
    yield Faiss("angular", "HNSW16"), efs
    yield Faiss("angular", "HNSW32"), efs
    yield USearch("angular", "f32"), efs
    yield Lists("angular", "inverted_file"), [(), *probes]
    yield Faiss("angular", f"IVF{lists},Flat"), probes


def vectors_of(name: str, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a data set's vectors and queries."""
    if name == "fashion":
        base, queries = (
            read_images(FASHION / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")
        )
        return base, queries[:1000]
    rows = unit(items + 1000, 96, 0)
    if name in NOISE:
        rng = np.random.default_rng(1)
        rows = unit(1000, 96, 2)[rng.integers(0, 1000, len(rows))] + NOISE[name] * rows
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[1000:], rows[:1000]


def read_images(path: Path) -> np.ndarray:
    """Read an IDX file's images as rows of length 1: (N, 784)."""
    with gzip.open(path) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    rows = pixels.astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def use(cores: Collection[int]) -> None:
    """Move all threads of this process to some cores."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def rate(contender: Any, queries: np.ndarray) -> float:
    """Return queries/s, one at a time."""
    start, asked = time.perf_counter(), 0
    while asked < len(queries) and time.perf_counter() - start < SECONDS:
        contender.query(queries[asked], K)
        asked += 1
    return asked / (time.perf_counter() - start)


def compare(name: str, options: argparse.Namespace) -> None:
    """Print a data set's table."""
    base, queries = vectors_of(name, options.items)
    entered, rows, cores = [], [], os.sched_getaffinity(0)
    for contender, settings in contenders(len(base)):
        start = time.perf_counter()
        try:
            contender.fit(base)
        except ImportError:
            continue
        built = time.perf_counter() - start
        print(f"{contender.name}: built in {built:.1f} s", flush=True)
        entered += [(contender, built, arguments) for arguments in settings]
    use({max(cores)})
    truth = entered[0][0].batch(queries, K)
    measured: list[tuple[list[float], list[float]]] = [([], []) for _ in entered]
    recalls = []
    for turn in range(options.rounds):
        for (contender, _, arguments), (single, batch) in zip(entered, measured, strict=True):
            contender.set_query_arguments(*arguments)
            if not turn:
                contender.query(queries[0], K)  # compiles
                recalls.append(recall(contender.batch(queries, K), truth))
            single.append(rate(contender, queries))
            start = time.perf_counter()
            contender.batch_query(queries, K)
            batch.append(len(queries) / (time.perf_counter() - start))
    for (contender, built, arguments), share, rates in zip(entered, recalls, measured, strict=True):
        said = " ".join([contender.option, *map(str, arguments)]) if arguments else "default"
        single, batch = (f"{np.median(values):.0f}" for values in rates)
        rows.append([contender.name, said, f"{built:.1f}", f"{share:.4f}", single, batch])
    use(cores)
    print(f"\n{name}, {len(base):,} x {base.shape[1]}, {options.rounds} rounds, one core\n")
    header = ["contender", "setting", "build s", f"recall@{K}", "one by one, queries/s", "at once"]
    table(header, rows)


def main() -> None:
    """Compare on each data set that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", choices=(*NOISE, "random", "fashion"))
    parser.add_argument("--items", type=int, default=100_000, help="vectors (default 100,000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    options = parser.parse_args()
    for name in options.data:
        compare(name, options)


if __name__ == "__main__":
    main()
