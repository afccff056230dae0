"""A progress bar, throughput, and time spent waiting for data."""

import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax

from vision_jax.bars import tqdm
from vision_jax.data.loader import Loader
from vision_jax.tasks.state import Metrics
from vision_jax.training.metrics import Row

STEPS_AHEAD = 16
"""Maximum number of steps dispatched before the host waits for the oldest."""
_SECONDS_AHEAD = 2.0
"""Maximum time that they may take, if more than one is pending: stopping a run waits for them."""

_Item = TypeVar("_Item")


class Progress:
    """A progress bar over the run with images/s and time left, and a line per epoch.

    Steps are dispatched asynchronously. The bar counts a step once its metrics are ready, and
    blocks while more than `STEPS_AHEAD`, or two seconds' worth, are pending, so that the host does
    not run ahead.

    Args:
        train: the training batches.
        step: the step from which the run starts or resumes.
        epochs: total number of epochs.
        check: called with the number of steps done and the last one's metrics, once it is done.
        shown: print the bar and the lines.
    """

    def __init__(
        self,
        train: Loader,
        step: int,
        epochs: int,
        check: Callable[[int, Metrics], None],
        *,
        shown: bool,
    ) -> None:
        self._batch, self._epochs, self._shown = train.batch_size, epochs, shown
        self._step, self._check = step, check
        self._pending: deque[Metrics] = deque()
        self._counted, self._waited, self._since = 0, 0.0, time.perf_counter()
        self._most, self._last = 1, self._since
        self._bar = tqdm(
            total=epochs * train.steps_per_epoch * self._batch,
            initial=step * self._batch,
            unit="img",
            unit_scale=True,
            desc=f"training on {train.source.name}",
            disable=not shown,
            leave=False,
        )

    def timed(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield items, and measure the time spent waiting for each."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            item = next(iterator, None)
            self._waited += time.perf_counter() - start
            if item is None:
                return
            yield item

    def start(self) -> None:
        """Begin to measure: what came before, such as an evaluation, is not training."""
        self._counted, self._waited, self._since = 0, 0.0, time.perf_counter()
        self._last = self._since

    def advance(self, metrics: Metrics) -> None:
        """Add a dispatched step, and count those that are done.

        Args:
            metrics: what the step returned.
        """
        self._pending.append(metrics)
        while self._pending and (len(self._pending) > self._most or _is_ready(self._pending[0])):
            self._count()

    def wait(self) -> None:
        """Wait for all dispatched steps."""
        while self._pending:
            self._count()

    def speeds(self) -> dict[str, float]:
        """Wait for all dispatched steps, and measure throughput and memory.

        Returns:
            Since `start`: `images_per_second`, and `data_wait`, the share of time in [0, 1]
            spent waiting for the next batch. Since the process started, in MiB: `host_memory`, the
            peak of this process, and where devices report it, `device_memory`, the peak of its
            fullest device.
        """
        self.wait()
        seconds = time.perf_counter() - self._since
        return {
            "images_per_second": self._counted / seconds,
            "data_wait": self._waited / seconds,
            **_memory(),
        }

    def write(self, row: Row) -> None:
        """Print an epoch's metrics on one line, above the bar."""
        metrics = (f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        if self._shown:
            tqdm.write(f"epoch {row['epoch']}/{self._epochs}  " + "  ".join(metrics))
        self._since = time.perf_counter()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def _count(self) -> None:
        metrics = jax.block_until_ready(self._pending.popleft())
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self._most = int(min(max(1, _SECONDS_AHEAD / max(seconds, 1e-6)), STEPS_AHEAD))
        self._step += 1
        self._check(self._step, metrics)
        self._counted += self._batch
        self._bar.update(self._batch)


def _memory() -> dict[str, float]:
    unit = 1 if sys.platform == "darwin" else 1024
    memory = {"host_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    reported = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats["peak_bytes_in_use"] for stats in reported if "peak_bytes_in_use" in stats]
    return memory | ({"device_memory": max(peaks) / 2**20} if peaks else {})


def _is_ready(metrics: Metrics) -> bool:
    return all(leaf.is_ready() for leaf in jax.tree.leaves(metrics))
