"""How far a run is, how fast it goes, and what it waits for."""

import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
from tqdm import tqdm

from vision_jax.data.loader import Loader
from vision_jax.tasks.state import Metrics
from vision_jax.training.metrics import Row

STEPS_AHEAD = 16
"""Steps that may be under way while the host prepares the next."""

_Item = TypeVar("_Item")


class Progress:
    """A bar over the whole run with images/s and the time that is left, and a line per epoch.

    It also keeps the host from running away: a step is dispatched long before it is done, so the
    bar counts the steps whose metrics have arrived, and waits once too many are under way.

    Args:
        train: the batches that are counted.
        step: the step to start from.
        epochs: epochs in all.
        check: called with the number of steps done and the metrics of the last, once they are here.
        shown: whether to print at all.
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
        self._under_way: deque[Metrics] = deque()
        self._counted, self._waited, self._since = 0, 0.0, time.perf_counter()
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
        """Hands on items, and notes the time that the run waits for each."""
        iterator = iter(items)
        while True:
            begun = time.perf_counter()
            item = next(iterator, None)
            self._waited += time.perf_counter() - begun
            if item is None:
                return
            yield item

    def advance(self, metrics: Metrics) -> None:
        """Notes a dispatched step and counts those that are done.

        Args:
            metrics: what the step returned.
        """
        self._under_way.append(metrics)
        while self._under_way and (
            len(self._under_way) > STEPS_AHEAD or _is_ready(self._under_way[0])
        ):
            self._count()

    def wait(self) -> None:
        """Waits for the steps under way."""
        while self._under_way:
            self._count()

    def speeds(self) -> dict[str, float]:
        """Waits for the steps under way.

        Returns:
            Since the last call: `images_per_second` and `data_wait`, the share of the time in
            [0, 1] that the run waited for its next batch. By now, in MiB: `host_memory`, the most
            that this process took, and `device_memory`, the most that its fullest device held,
            where the device tells.
        """
        self.wait()
        now = time.perf_counter()
        seconds = now - self._since
        speeds = {
            "images_per_second": self._counted / seconds,
            "data_wait": self._waited / seconds,
            **_memory(),
        }
        self._counted, self._waited, self._since = 0, 0.0, now
        return speeds

    def write(self, row: Row) -> None:
        """Prints an epoch's figures on one line, above the bar."""
        figures = (f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        if self._shown:
            tqdm.write(f"epoch {row['epoch']}/{self._epochs}  " + "  ".join(figures))
        self._since = time.perf_counter()

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()

    def _count(self) -> None:
        metrics = jax.block_until_ready(self._under_way.popleft())
        self._step += 1
        self._check(self._step, metrics)
        self._counted += self._batch
        self._bar.update(self._batch)


def _memory() -> dict[str, float]:
    unit = 1 if sys.platform == "darwin" else 1024
    memory = {"host_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    told = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats["peak_bytes_in_use"] for stats in told if "peak_bytes_in_use" in stats]
    return memory | ({"device_memory": max(peaks) / 2**20} if peaks else {})


def _is_ready(metrics: Metrics) -> bool:
    return all(leaf.is_ready() for leaf in jax.tree.leaves(metrics))
