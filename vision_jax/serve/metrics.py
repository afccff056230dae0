"""Counts for Prometheus."""

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from vision_jax.serve.galleries import Gallery

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What a server has done, as `/metrics` tells it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        shared: Any = {"namespace": "vision_jax", "registry": self._registry}
        self._requests = Counter(
            "requests", "Requests by path and status.", ["path", "status"], **shared
        )
        self._seconds = Histogram(
            "request_seconds", "Time to answer by path.", ["path"], buckets=_SECONDS, **shared
        )
        self._batches = Histogram(
            "batch_size",
            "Images or queries worked on together.",
            ["stage"],
            buckets=_SIZES,
            **shared,
        )
        self._reloads = Counter("reloads", "Replaced index files.", ["index", "outcome"], **shared)
        self._images = Gauge("index_images", "Images of an index.", ["index"], **shared)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, stage: str) -> Callable[[int], None]:
        """Return what counts a batch of `embedding` or `search`."""
        return self._batches.labels(stage).observe

    def reload(self, index: str, done: bool) -> None:
        """Count a replaced index file, read or refused."""
        self._reloads.labels(index, "done" if done else "refused").inc()

    def text(self, galleries: Sequence[Gallery]) -> bytes:
        """Return all counts in Prometheus's text format."""
        for gallery in galleries:
            self._images.labels(gallery.name).set(len(gallery.rows))
        return generate_latest(self._registry)
