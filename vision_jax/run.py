"""A run: a config trained in a folder, and what its trained network can be asked."""

import dataclasses
import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cattrs
import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from tqdm import tqdm

from vision_jax import config as configs
from vision_jax.config import DataConfig, TrainCNN, TrainConfig
from vision_jax.data import augment
from vision_jax.data.decode import read_image
from vision_jax.data.loader import Loader, padded, read_all, to_float
from vision_jax.data.sources import Source, check_shape, open_source
from vision_jax.errors import InputError
from vision_jax.models.cnn import CNN
from vision_jax.tasks.base import Task, TrainState
from vision_jax.tasks.classification import Classification
from vision_jax.tasks.optimizer import build_optimizer
from vision_jax.training.checkpoint import Checkpoints, Which
from vision_jax.training.loop import Evaluator, FitResult, fit, initial_state
from vision_jax.training.metrics import MetricsLog
from vision_jax.training.parallel import Augment, DataParallel

Images = (
    UInt8[np.ndarray, "images height width channels"]
    | Float[np.ndarray, "images height width channels"]
    | Source
)


def train(
    config: TrainConfig,
    workdir: str | Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: bool = True,
) -> FitResult:
    """Trains a config in a folder, or goes on where an earlier call with it stopped.

    Args:
        config: what to train.
        workdir: the run's folder; made if it is not there.
        should_stop: asked after each step; once true, the state is saved and training ends.
        progress: whether to show a bar and a line per epoch.

    Returns:
        The last state and the history of this call.

    Raises:
        InputError: bad data, or the folder holds another config's run or is in use.
        TrainingDivergedError: the loss is no longer finite.
    """
    workdir = Path(workdir)
    _check_config(config, workdir)
    train_source = open_split(config.data, config.data.train_split)
    validation_source = open_split(config.data, config.data.validation_split)
    parallel = DataParallel.over()
    loader = _loader(config, train_source, parallel, train=True)
    validation = _loader(config, validation_source, parallel, train=False)
    about = About.of(loader)
    task = build_task(config, about)
    parallel.check(loader.batch_size)
    _check_shapes(task, config, train_source)
    with _lock(workdir), _checkpoints(workdir, config, create=True) as checkpoints:
        found = checkpoints.find("last")
        if found is not None:
            _check_about(_read_about(checkpoints, found), about, workdir)
        (workdir / "config.json").write_text(config.to_json())
        with MetricsLog(workdir, step=found or 0) as log:
            return fit(
                task,
                loader,
                epochs=config.epochs,
                seed=config.seed,
                validation=validation,
                augment=_augment(config.data),
                parallel=parallel,
                checkpoints=checkpoints,
                about=dataclasses.asdict(about),
                log=log if parallel.is_first else None,
                should_stop=should_stop,
                progress=progress,
            )


def load_run(workdir: str | Path, which: Which = "best") -> "Run":
    """Loads a trained network.

    Args:
        workdir: the run's folder.
        which: `best` by the validation metric, `last`, or a step.

    Returns:
        The run at that checkpoint.

    Raises:
        InputError: the folder holds no run, or no whole checkpoint of that kind.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    if not path.is_file():
        raise InputError(f"{workdir} holds no run: {path} does not exist; train one there first")
    config = configs.from_json(path.read_text(), origin=str(path))
    parallel = DataParallel.over()
    with _checkpoints(workdir, config) as checkpoints:
        step = checkpoints.find(which)
        if step is None:
            raise InputError(f"{workdir} holds no checkpoint yet; train it for an epoch first")
        about = _read_about(checkpoints, step)
        task = build_task(config, about)
        state = jax.eval_shape(lambda: initial_state(task, config.seed, about.image_shape))
        state = checkpoints.restore(step, state=parallel.replicated(state))["state"]
    return Run(workdir, config, about, step, task, state, parallel)


@dataclasses.dataclass(frozen=True)
class About:
    """What must be known of the data before the network can be built.

    Attributes:
        image_shape: (height, width, channels).
        label_names: the classes, or None.
        train_examples: images trained on.
        steps_per_epoch: batches in a pass over them.
    """

    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...] | None
    train_examples: int
    steps_per_epoch: int

    @classmethod
    def of(cls, loader: Loader) -> "About":
        """Reads it off the training batches."""
        source = loader.source
        return cls(source.image_shape, source.label_names, len(source), loader.steps_per_epoch)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained network and what it was trained on.

    Attributes:
        workdir: the run's folder.
        config: what was trained.
        about: the data's shape and classes.
        step: the checkpoint's step.
        task: what was trained, as pure functions.
        state: the checkpoint's state, on every device.
        parallel: the devices.
    """

    workdir: Path
    config: TrainConfig
    about: About
    step: int
    task: Task
    state: TrainState
    parallel: DataParallel

    def predict(self, images: Images) -> Float[np.ndarray, "images classes"]:
        """Classifies images.

        Args:
            images: (N, H, W, C) uint8 in [0, 255] or float in [0, 1], or a source.

        Returns:
            (N, classes) probabilities.

        Raises:
            InputError: the run is no classifier, or the images have another shape than its own.
        """
        task = self.task
        if not isinstance(task, Classification):
            raise InputError(f"{self.workdir} holds a run of {self.config.family}, no classifier")
        return self._map(
            lambda state, pixels: jax.nn.softmax(task.logits(state, pixels)), images, "predicting"
        )

    def embed(self, images: Images) -> Float[np.ndarray, "images features"]:
        """Turns images into the vectors that search compares.

        Args:
            images: (N, H, W, C) uint8 in [0, 255] or float in [0, 1], or a source.

        Returns:
            (N, D) float32.

        Raises:
            InputError: the images have another shape than the run's own.
        """
        return self._map(self.task.embed, images, "embedding")

    def evaluate(self, split: str | None = None) -> dict[str, Any]:
        """Evaluates on a split of the run's data.

        Args:
            split: tfds's slicing syntax; the config's test split by default.

        Returns:
            Floats, and host arrays of counts such as `confusion`, by name.

        Raises:
            InputError: no such split.
        """
        source = self.source(split)
        self._check_shape(source.image_shape)
        loader = _loader(self.config, source, self.parallel, train=False)
        return Evaluator(self.task, loader, self.parallel)(self.state)

    def source(self, split: str | None = None) -> Source:
        """Opens a split of the run's data; the config's test split by default."""
        return open_split(self.config.data, split or self.config.data.test_split)

    def open_images(self, name: str, split: str) -> Source:
        """Opens a data set or folder in this run's image shape.

        Args:
            name: a data set's name or a folder.
            split: tfds's slicing syntax.

        Raises:
            InputError: there is none, or its images cannot be brought to the run's shape.
        """
        data = self.config.data
        source = open_source(
            name,
            split,
            data_dir=data.data_dir,
            manual_dir=data.manual_dir if name == data.name else None,
            image_size=self._size,
            channels=self.about.image_shape[-1],
        )
        self._check_shape(source.image_shape)
        return source

    def read_images(self, paths: Sequence[str | Path]) -> UInt8[np.ndarray, "images h w c"]:
        """Reads image files in this run's image shape.

        Args:
            paths: the files.

        Returns:
            (N, H, W, C) uint8.

        Raises:
            InputError: a file is unreadable, or cannot be brought to the run's shape.
        """
        channels = self.about.image_shape[-1]
        images = [read_image(path, channels=channels, size=self._size) for path in paths]
        for path, image in zip(paths, images, strict=True):
            check_shape(image, self.about.image_shape, str(path))
        return np.stack(images)

    @property
    def _size(self) -> int | None:
        height, width, _ = self.about.image_shape
        return height if height == width else None

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != self.about.image_shape:
            raise InputError(
                f"images have shape {tuple(shape)}; the run in {self.workdir} takes "
                f"{self.about.image_shape}"
            )

    def _map(
        self, function: Callable[[TrainState, Array], Array], images: Images, verb: str
    ) -> np.ndarray:
        shape = images.image_shape if isinstance(images, Source) else images.shape[1:]
        self._check_shape(shape)

        def to_rows(state: TrainState, pixels: Array) -> Array:
            return function(state, to_float(pixels) if pixels.dtype == np.uint8 else pixels)

        mapped = self.parallel.map_images(to_rows)
        size = -(-_IMAGES_AT_ONCE // self.parallel.count) * self.parallel.count
        parts = []
        with tqdm(total=len(images), desc=verb, unit="img", delay=2, leave=False) as bar:
            for pixels, count in _chunks(images, size, self.parallel.process):
                parts.append(mapped(self.state, pixels)[:count])
                bar.update(count)
        return np.concatenate(parts)


def open_split(data: DataConfig, split: str) -> Source:
    """Opens a split of a config's data."""
    return open_source(
        data.name,
        split,
        data_dir=data.data_dir,
        manual_dir=data.manual_dir,
        image_size=data.image_size,
        channels=data.channels,
    )


def build_task(config: TrainConfig, about: About) -> Task:
    """The task that a config describes.

    Args:
        config: the run's config.
        about: the data's shape and classes.

    Returns:
        The task, with its network and update rule.

    Raises:
        InputError: the data has no labels, or a value does not suit its images.
    """
    optimizer = config.optimizer
    rule = build_optimizer(
        optimizer.name,
        learning_rate=optimizer.learning_rate,
        schedule=optimizer.schedule,
        warmup_steps=round(optimizer.warmup_epochs * about.steps_per_epoch),
        total_steps=config.epochs * about.steps_per_epoch,
        weight_decay=optimizer.weight_decay,
    )
    match config:
        case TrainCNN(model=model):
            if about.label_names is None:
                raise InputError(f"{config.data.name} has no labels; a classifier needs them")
            network = CNN(
                num_classes=len(about.label_names),
                stages=model.stages,
                hidden=model.hidden,
                padding=model.padding,
                dropout=model.dropout,
                dtype=config.precision,
            )
            return Classification(
                network, rule, model.label_smoothing, tuple(model.mean), tuple(model.std)
            )
    raise InputError(f"{type(config).__name__} is no config of a known family")


_TASKS: dict[str, type[Task]] = {"cnn": Classification}
_IMAGES_AT_ONCE = 256
_CONVERTER = cattrs.Converter()


def _chunks(
    images: Images, size: int, process: tuple[int, int]
) -> Iterator[tuple[np.ndarray, int]]:
    """Padded parts of `size` images, and how many of each are real."""
    if isinstance(images, Source):
        loader = Loader(images, size, train=False, process=process)
        if not loader.held_on_device:
            for item in loader.items(0, loader.steps_per_epoch):
                yield item["image"], int(item["mask"].sum())
            return
        images = read_all(images)["image"]
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield padded(part, size), len(part)


def _checkpoints(workdir: Path, config: TrainConfig, *, create: bool = False) -> Checkpoints:
    metric, mode = _TASKS[config.family].best_metric
    return Checkpoints(workdir / "checkpoints", metric=metric, mode=mode, create=create)


def _loader(config: TrainConfig, source: Source, parallel: DataParallel, *, train: bool) -> Loader:
    data = config.data
    return Loader(
        source,
        data.batch_size,
        train=train,
        seed=config.seed,
        on_device_bytes=data.on_device_mib * 2**20,
        workers=data.workers,
        process=parallel.process,
    )


def _augment(data: DataConfig) -> Augment | None:
    if not (data.flip or data.pad_crop):
        return None
    return partial(augment.augment, flip=data.flip, pad_crop=data.pad_crop)


def _check_shapes(task: Task, config: TrainConfig, source: Source) -> None:
    """Refuses images that the network cannot take, before anything is written."""
    try:
        jax.eval_shape(lambda: initial_state(task, config.seed, source.image_shape))
    except ValueError as error:
        raise InputError(f"{source.name}: {error}") from error


def _check_config(config: TrainConfig, workdir: Path) -> None:
    """Refuses a folder that holds another config's run, or anything else."""
    path = workdir / "config.json"
    if path.is_file():
        old = configs.from_json(path.read_text(), origin=str(path))
        if changes := configs.differences(old, config):
            raise InputError(
                f"{workdir} holds a run of another config ({'; '.join(changes)}); "
                "another --workdir or the same settings are needed"
            )
    elif workdir.is_file() or (workdir.is_dir() and any(workdir.iterdir())):
        raise InputError(f"{workdir} holds something else than a run; a new folder is needed")


def _read_about(checkpoints: Checkpoints, step: int) -> About:
    return _CONVERTER.structure(checkpoints.about(step), About)


def _check_about(saved: About, found: About, workdir: Path) -> None:
    for field in dataclasses.fields(About):
        old, new = getattr(saved, field.name), getattr(found, field.name)
        if old != new:
            raise InputError(
                f"{workdir} was trained on data with {field.name} {old!r}, which is now {new!r}; "
                "the same data or another --workdir is needed"
            )


@contextmanager
def _lock(workdir: Path) -> Iterator[None]:
    """Keeps a second process from writing the same folder."""
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{workdir} is being trained by another process") from None
        yield
