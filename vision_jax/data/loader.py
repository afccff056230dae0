"""Batches of a source: seeded, sharded over processes, and resumable at any step.

A step's batch is a pure function of the step's number. An `Item` is what the host passes to the
device for one step: indices if the images are held on the device, pixels otherwise. `Loader.batch`
turns it into a float batch inside the jitted step.
"""

import contextlib
import dataclasses
import gc
import itertools
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cached_property, lru_cache
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from vision_jax.bars import tqdm
from vision_jax.checked import check_choice
from vision_jax.config import Sampling
from vision_jax.data.class_batches import ClassBatches
from vision_jax.data.sampling import Balanced, shuffled
from vision_jax.data.sources import Source
from vision_jax.errors import InputError, RunError
from vision_jax.parallel.threads import core_count, map_in_order

Item = dict[str, np.ndarray]
Batch = dict[str, Array]
_READ_AT_ONCE = 64
_THREADS = max(2, min(core_count(), 8))  # each holds a batch
# grain has no exception of its own for it.
_ENDED = re.compile(r"Worker process was terminated unexpectedly with exit code (-?\d+)")
_UNGUARDED = 87
"""Exit code of a reader that finds itself running its parent's script."""


class ReaderKilledError(RunError):
    """A reader process that ended early."""


@dataclasses.dataclass(frozen=True)
class Loader:
    """The batches of a source, by step number.

    Training shuffles anew every epoch and drops the incomplete last batch. Evaluation keeps the
    source's order, and pads and masks the last batch. An epoch is as many images as the source has,
    however they are sampled.

    Attributes:
        source: the images.
        batch_size: images per batch, over all processes.
        train: whether to shuffle.
        seed: seed of the shuffling.
        on_device_bytes: sources of up to this many bytes of uint8 pixels are held on the device.
        workers: reader processes for larger sources; 0 reads in threads.
        process: (index, count) of this process; each reads its own part of every batch.
        per_class: images of each class in a training batch, see `ClassBatches`; 0: as they come.
        sampling: in training, every image once an epoch, or `balanced`: equally many of each class,
            see `sampling.Balanced`.
    """

    source: Source
    batch_size: int
    train: bool
    seed: int = 0
    on_device_bytes: int = 2**30
    workers: int = 0
    process: tuple[int, int] = (0, 1)
    per_class: int = 0
    sampling: Sampling = "uniform"
    _balanced: Balanced | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.workers:
            _end_if_started_by_a_reader()
        if self.batch_size % self.process[1]:
            raise InputError(
                f"batch_size is {self.batch_size}; "
                f"it must be a multiple of the {self.process[1]} processes"
            )
        if self.train and self.batch_size > len(self.source):
            raise InputError(
                f"batch_size is {self.batch_size}; it must be at most {len(self.source)}, "
                f"the images of {self.source.name}, split {self.source.split!r}"
            )
        check_choice(self.sampling, get_args(Sampling), "sampling")
        if self.per_class:
            _ = self._classes  # refuses here what cannot be grouped
        if self.train and self.sampling == "balanced":
            object.__setattr__(self, "_balanced", Balanced.of(self._labels()))

    @cached_property
    def _classes(self) -> ClassBatches:
        return ClassBatches.of(self.source, self.batch_size, self.per_class, self.seed)

    def _labels(self) -> Integer[np.ndarray, " examples"]:
        if self.per_class:
            raise InputError(
                f"sampling is 'balanced'; it must be 'uniform' with per_class {self.per_class}"
            )
        labels = self.source.labels()
        if labels is None or labels.ndim != 1:
            found = "no labels" if labels is None else "several labels an image"
            raise InputError(
                f"sampling is 'balanced'; {self.source.name} has {found}; one an image is needed"
            )
        return labels

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in one pass."""
        count = len(self.source)
        return count // self.batch_size if self.train else -(-count // self.batch_size)

    @property
    def held_on_device(self) -> bool:
        """Whether the images are held on the device."""
        size = len(self.source) * int(np.prod(self.source.image_shape))
        return size <= self.on_device_bytes

    def resident(self) -> dict[str, np.ndarray]:
        """Read what stays on the device: all of a small source, nothing of a large one.

        Returns:
            `image` (N, H, W, C) uint8 and, with labels, `label` (N,) int32 or (N, labels) bool; or
            an empty dict.
        """
        return _as_label(read_all(self.source)) if self.held_on_device else {}

    def blank(self, count: int = 1) -> Batch:
        """Make a batch of blank images, for its shapes; see `blank_batch`."""
        names = self.source.multi_label_names
        return blank_batch(
            self.source.image_shape, count, labels=None if names is None else len(names)
        )

    def indices(self, step: int) -> Integer[np.ndarray, " batch"]:
        """Return the examples in a step's whole batch.

        Args:
            step: counted from the start of training; 0 is the first batch of the first epoch.

        Returns:
            (batch,) positions in the source; the last batch of an evaluation may have fewer.
        """
        if self.train and self.per_class:
            return self._classes.indices(step)
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.train:
            order = _order(self._balanced or len(self.source), self.seed, epoch)
        else:
            order = np.arange(len(self.source))
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Give this process's items for the steps from `start` up to `stop`, read ahead.

        Args:
            start: the first step.
            stop: the step after the last.

        Yields:
            `mask` (batch,) bool, and `index` (batch,) int32 or `image` uint8 and `label`.
        """
        if self.held_on_device:
            for step in range(start, stop):
                yield self.item(step)
        elif self.workers:
            yield from _in_processes(self, start, stop)
        else:
            yield from map_in_order(self.item, range(start, stop), _THREADS)

    def item(self, step: int) -> Item:
        """Return this process's item at one step; see `items`."""
        part, count = self.process
        local = self.batch_size // count
        mine = self.indices(step)[part * local : (part + 1) * local]
        mask = np.arange(local) < len(mine)
        if self.held_on_device:
            return {"index": padded(mine.astype(np.int32), local), "mask": mask}
        examples = _as_label(_stack(self.source.read(mine.tolist()), self.source))
        return {name: padded(rows, local) for name, rows in examples.items()} | {"mask": mask}

    @staticmethod
    def batch(resident: dict[str, Array], item: dict[str, Array]) -> Batch:
        """Turn an item into a float batch; pure, for use inside a jitted step.

        Args:
            resident: what `resident` returned, on the device.
            item: an item, or a shard of it.

        Returns:
            `image` (B, H, W, C) float32 in [0, 1], `mask` (B,) bool and, with labels, `label` (B,)
            int32, or (B, labels) bool where an image may have several.
        """
        if resident:
            rows = {name: values[item["index"]] for name, values in resident.items()}
        else:
            rows = {name: values for name, values in item.items() if name != "mask"}
        return rows | {"image": to_float(rows["image"]), "mask": item["mask"]}


def blank_batch(
    image_shape: tuple[int, int, int], count: int = 1, *, labels: int | None = None
) -> Batch:
    """Make a batch of blank images, for its shapes.

    Args:
        image_shape: (height, width, channels).
        count: batch size B.
        labels: how many labels there are, if an image may have several.

    Returns:
        `image` (B, H, W, C) float32, `label` (B,) int32, or (B, labels) bool, and `mask` (B,) bool.
    """
    label = jnp.zeros(count, jnp.int32) if labels is None else jnp.zeros((count, labels), bool)
    return {
        "image": jnp.zeros((count, *image_shape), jnp.float32),
        "label": label,
        "mask": jnp.ones(count, bool),
    }


def to_float(images: Integer[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Convert uint8 pixels in [0, 255] to float32 in [0, 1]."""
    return images.astype(jnp.float32) * jnp.float32(1 / 255)


def read_all(source: Source) -> dict[str, np.ndarray]:
    """Read a whole source into memory, with a progress bar if it takes some seconds.

    Args:
        source: the images.

    Returns:
        `image` (N, H, W, C) uint8 and, with labels, `label` (N,) int32; or `labels` (N, labels)
        bool where an image may have several.
    """
    count = len(source)
    read: dict[str, np.ndarray] = {"image": np.empty((count, *source.image_shape), np.uint8)}
    if source.multi_label_names is not None:
        read["labels"] = np.empty((count, len(source.multi_label_names)), bool)
    elif source.label_names is not None:
        read["label"] = np.empty(count, np.int32)
    done = 0
    with tqdm(
        total=count, desc=f"reading {source.name} {source.split}", unit="img", delay=2
    ) as bar:
        for rows in read_parts(source, _READ_AT_ONCE):
            part = slice(done, done := done + len(rows["image"]))
            for name, values in read.items():
                values[part] = rows[name]
            bar.update(part.stop - part.start)
    return read


def read_parts(source: Source, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Read a source part by part in its order, some parts ahead in threads.

    Args:
        source: the images.
        size: rows per part; the last may have fewer.

    Yields:
        `image` (size, H, W, C) uint8 and, with labels, `label` (size,) int32; or `labels` (size,
        labels) bool where an image may have several.
    """
    count = len(source)

    def read(start: int) -> dict[str, np.ndarray]:
        return _stack(source.read(range(start, min(start + size, count))), source)

    return map_in_order(read, range(0, count, size), _THREADS)


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Append rows of zeros up to `size` rows."""
    if len(rows) == size:
        return rows
    return np.pad(rows, [(0, size - len(rows)), *[(0, 0)] * (rows.ndim - 1)])


@lru_cache(maxsize=8)
def _order(images: Balanced | int, seed: int, epoch: int) -> Integer[np.ndarray, " examples"]:
    if isinstance(images, int):
        return shuffled(images, seed, epoch)
    return images.order(seed, epoch)


def _stack(examples: list[Any], source: Source) -> dict[str, np.ndarray]:
    images = np.empty((len(examples), *source.image_shape), np.uint8)
    for row, example in zip(images, examples, strict=True):
        row[...] = example["image"]
    if source.multi_label_names is not None:
        labels = np.empty((len(examples), len(source.multi_label_names)), bool)
        for row, example in zip(labels, examples, strict=True):
            row[...] = example["labels"]
        return {"image": images, "labels": labels}
    if source.label_names is None:
        return {"image": images}
    return {"image": images, "label": np.array([e["label"] for e in examples], np.int32)}


def _as_label(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name the labels of a source as a batch does, of one kind or the other."""
    return {"label" if name == "labels" else name: values for name, values in rows.items()}


def _in_processes(loader: Loader, start: int, stop: int) -> Iterator[Item]:
    import grain
    from absl import flags

    _check_main_module(loader.workers)
    # grain leaves earlier readers as reference cycles that hold dozens of semaphores. Python 3.13
    # would warn of each as leaked if it freed them while it starts the new processes.
    gc.collect()
    # grain's workers read absl flags, which a caller of a library may never have parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    steps = grain.MapDataset.range(start, stop).map(loader.item)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    processes = grain.MultiprocessingOptions(
        num_workers=loader.workers, per_worker_buffer_size=2, enable_profiling=False
    )
    # Use pipes. Shared memory that a step still holds is freed late or never, and Python then warns
    # of it as leaked when the process ends.
    piped = grain.experimental.WithOptionsIterDataset(
        steps.to_iter_dataset(options), grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
    )
    read = piped.mp_prefetch(processes, worker_init_fn=_start_reader)
    with contextlib.closing(iter(read)) as items:
        try:
            yield from _uninterrupted(items)
        except RuntimeError as error:
            if not (ended := _ENDED.match(str(error))):
                raise
            raise _reader_error(int(ended[1]), loader.workers) from error


def _uninterrupted(items: Iterator[Item]) -> Iterator[Item]:
    """Give items of readers that Ctrl-C does not reach, not even as they start: it is the parent's.

    Readers are started by threads that the first item starts, and inherit the mask of this one.
    """
    resource_tracker.ensure_running()  # as it starts, it would lift the mask
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        first = list(itertools.islice(items, 1))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    yield from itertools.chain(first, items)


def _reader_error(code: int, workers: int) -> InputError | RunError:
    """Return the error for a reader process that ended early, by its exit code."""
    if code == _UNGUARDED:
        return InputError(
            f"workers is {workers}, and each reader process runs the main script again; put the "
            'script\'s work under if __name__ == "__main__":, or set workers to 0'
        )
    what = f"one of the {workers} reader processes ended with code {code}"
    if code < 0:
        what += ", as happens where memory is short; fewer workers may help"
    return ReaderKilledError(what)


def _end_if_started_by_a_reader() -> None:
    """End a reader process that runs its parent's script again for want of a `__main__` guard."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(_UNGUARDED)


def _check_main_module(workers: int) -> None:
    """Refuse a script that readers cannot import, such as one read from standard input."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is None and file and not Path(file).exists():
        raise InputError(
            f"workers is {workers}, and reader processes cannot import the main script, {file}; "
            "save it as a file, or set workers to 0"
        )


def _start_reader(index: int, count: int) -> None:
    """Make a reader exit when its parent dies, even if killed.

    A thread watches the pipe to the parent. Linux's own signal would come at the death of the
    parent's thread that started the reader.
    """
    del index, count

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
