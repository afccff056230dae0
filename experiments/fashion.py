"""Fashion-MNIST in memory, and networks that are trained on it several times but compiled once.

The scripts that take `--data` read its four IDX files from that folder, by default from where
Debian's package `dataset-fashion-mnist` puts them; nothing is prepared first.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vision_jax.augment.recipes import Augment
from vision_jax.config import TrainClassifier, TrainConfig, TrainMetric
from vision_jax.data.builders.fashion_mnist import FILES, LABELS, SYSTEM_DIR, read_idx
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import blank_batch
from vision_jax.data.sources import ArraySource
from vision_jax.evaluation.repeats import student_interval
from vision_jax.files import json_text, write_text
from vision_jax.run.build import build_augmentation, build_task
from vision_jax.run.data import split_loader
from vision_jax.run.run import Run
from vision_jax.tasks.state import TrainState
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.loop import fit
from vision_jax.training.steps import DataParallel

RESULTS = Path(__file__).parent / "results"
# The losses that embeddings are compared by: what of a config each needs.
LOSSES: dict[str, dict[str, Any]] = {
    "cross-entropy": {},
    "smoothed cross-entropy": {"label_smoothing": 0.1},
    "softmax of cosines": {"loss": "norm_softmax", "loss_options": {"scale": 16.0}},
    "Proxy-Anchor": {"loss": "proxy_anchor"},
    "contrastive": {"loss": "contrastive"},
    "multi-similarity": {"loss": "multi_similarity"},
}
_AT_ONCE = 500
_PACKAGES = ("vision_jax", "jax", "flax", "optax", "numpy")


def read(split: str, folder: Path = SYSTEM_DIR, *, limit: int | None = None) -> ArraySource:
    """Read `train` or `test`, or the first `limit` images of it."""
    images, labels, count = FILES[split]
    pixels = read_idx(folder / images, (count, 28, 28))[:limit, ..., None]
    kinds = read_idx(folder / labels, (count,))[:limit].astype(np.int32)
    return ArraySource.from_arrays(pixels, kinds, label_names=LABELS, name="fashion_mnist")


def chosen(source: ArraySource, rows: Sequence[int], places: Any = None) -> ArraySource:
    """Take some images, with labels of their own or those that they have."""
    kinds = source.classes[rows] if places is None else places
    names = source.label_names if places is None else None
    return ArraySource.from_arrays(
        source.images[rows], kinds.astype(np.int32), label_names=names, name=source.name
    )


@dataclasses.dataclass(frozen=True)
class _Kept(DataParallel):
    """Keeps what it built for one task, which then compiles once for all trainings."""

    kept: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def train_step(self, task: Any, augment: Augment | None = None) -> Any:
        if "step" not in self.kept:
            self.kept["step"] = super().train_step(task, augment)
        return self.kept["step"]

    def no_totals(self, step: Callable[..., Any], state: TrainState, batch: Any) -> Any:
        if "no_totals" not in self.kept:
            self.kept["no_totals"] = super().no_totals(step, state, batch)
        return self.kept["no_totals"]


def by_loss(name: str, **given: Any) -> TrainClassifier | TrainMetric:
    """Return a config that trains by one of `LOSSES`."""
    kind = TrainMetric if "loss" in LOSSES[name] else TrainClassifier
    return kind(**given, **LOSSES[name])


class Trainer:
    """Trains one config on sets of equally many images and classes, without a folder.

    Args:
        config: what to train; its data is only batched and augmented.
        source: images like those to train on.
        augment: in place of the config's own augmentation.
    """

    def __init__(
        self, config: TrainConfig, source: ArraySource, augment: Augment | None = None
    ) -> None:
        self.config, self.parallel = config, _Kept.over()
        loader = split_loader(config, source, self.parallel, train=True)
        self.info = DataInfo.of(loader, count_classes=config.counts_classes)
        self.task: Any = build_task(config, self.info)
        share = loader.batch_size // self.parallel.count
        own = build_augmentation(config.data, self.info, share, needs=self.task.needs)
        self._augment = augment or own
        shape = source.image_shape
        self._init = jax.jit(lambda key: self.task.init(key, blank_batch(shape)))
        self._embed = jax.jit(self.task.embed)
        self._logits = jax.jit(getattr(self.task, "logits", self.task.embed))

    def fit(self, source: ArraySource, seed: int = 0, folder: Path | None = None) -> TrainState:
        """Train from random weights; returns the last state.

        With a folder, each epoch's state is saved there and training goes on from the last one.
        """
        config = dataclasses.replace(self.config, seed=seed)
        return fit(
            self.task,
            split_loader(config, source, self.parallel, train=True),
            epochs=config.epochs,
            seed=seed,
            state=self._init(jax.random.key(np.uint32(seed))),
            augment=self._augment,
            parallel=self.parallel,
            checkpoints=folder and Checkpoints(folder, metric=None, create=True),
            progress=folder is not None,
        ).state

    def resume(
        self, source: ArraySource, seed: int, workdir: Path
    ) -> tuple[TrainState, float | None]:
        """Train as `fit` does, from the last epoch that an earlier call reached.

        Args:
            source: the images.
            seed: the seed.
            workdir: folder of the config's trainings, each of which has its own within.

        Returns:
            The last state, and the seconds that it took; None if an earlier call did a part.
        """
        folder = workdir / f"{len(source)} images, seed {seed}"
        begun, start = folder.exists(), time.monotonic()
        state = self.fit(source, seed, folder)
        return state, None if begun else time.monotonic() - start

    def embed(self, state: TrainState, images: np.ndarray) -> np.ndarray:
        """Return the embeddings (N, D) of uint8 images."""
        return in_parts(lambda part: self._embed(state, part), images)

    def predict(self, state: TrainState, images: np.ndarray) -> np.ndarray:
        """Return a classifier's classes (N,) of uint8 images."""
        return in_parts(lambda part: self._logits(state, part), images).argmax(1)

    def accuracy(self, state: TrainState, source: ArraySource) -> float:
        """Measure a classifier."""
        return float(np.mean(self.predict(state, source.images) == source.classes))

    def run(self, state: TrainState, folder: Path) -> Run:
        """Wrap a state as a run that was not written."""
        step = int(state.step)
        return Run(folder, self.config, self.info, step, self.task, state, self.parallel)


def in_parts(function: Callable[[np.ndarray], Any], images: np.ndarray) -> np.ndarray:
    """Apply a compiled function to float images, a few at a time, all of one size."""
    found = []
    for start in range(0, len(images), _AT_ONCE):
        part = images[start : start + _AT_ONCE]
        short = _AT_ONCE - len(part)
        padded = np.pad(part, ((0, short), (0, 0), (0, 0), (0, 0))).astype(np.float32) / 255
        found.append(np.asarray(function(padded))[: len(part)])
    return np.concatenate(found)


def hardware() -> str:
    """Name the machine: its GPU, or its cores."""
    devices, cores = jax.devices(), f"{os.cpu_count()} cores, {platform.machine()}"
    if devices[0].platform == "cpu":
        return f"{cores}, cpu"
    return f"{len(devices)} x {devices[0].device_kind}, {cores}"


def typed() -> str:
    """Return the command that runs this script."""
    return shlex.join(["python", *sys.argv])


def write_card(path: Path, command: str, values: dict[str, Any]) -> None:
    """Write figures, with the command, date, hardware and versions that made them."""
    card = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": {name: _version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json_text(card | values))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "from source"


def read_rows(path: Path) -> dict[str, Any]:
    """Return the rows that `write_card` wrote; none without the file."""
    return json.loads(path.read_text())["rows"] if path.exists() else {}


def told(options: Mapping[str, Any]) -> str:
    """Format options as the end of a row's name, so that other options have rows of their own."""
    return f" ({', '.join(f'{name} {value}' for name, value in options.items())})" * bool(options)


def spreads(seeds: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """Return each metric's spread over the seeds that have it."""
    names = dict.fromkeys(name for one in seeds.values() for name in one)
    columns = {name: [one.get(name) for one in seeds.values()] for name in names}
    values = {name: [x for x in column if x is not None] for name, column in columns.items()}
    return {name: spread(known) for name, known in values.items() if known}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean of repetitions, their deviation, Student's 95% interval, and the values.

    Of one repetition, neither deviation nor interval.
    """
    deviation, interval = None, None
    if len(values) > 1:
        deviation = float(np.std(values, ddof=1))
        found = student_interval(np.asarray(values, np.float64))
        interval = [float(found.low), float(found.high)]
    mean = float(np.mean(values))
    return {"mean": mean, "deviation": deviation, "interval": interval, "values": [*values]}
