"""A run: a model trained in a folder or imported to it, and what it can be asked."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from vision_jax.config import TrainConfig
from vision_jax.data.arrays import as_pixels
from vision_jax.data.catalog import open_source
from vision_jax.data.data_set import DataSet
from vision_jax.data.decode import read_image
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import to_float
from vision_jax.data.resize import Resize
from vision_jax.data.sources import BadFiles, Source, check_shape
from vision_jax.data.splits import Splits
from vision_jax.errors import InputError
from vision_jax.run.build import build_task
from vision_jax.run.data import chosen_splits, open_config_data, split_loader
from vision_jax.run.mapping import Function, map_no_rows, map_rows
from vision_jax.run.workdir import check_classes, open_checkpoints, read_config, read_info
from vision_jax.tasks.base import Classifies, Decodes, Generates, Reconstructs, Task
from vision_jax.tasks.latents import sample_latents
from vision_jax.tasks.state import TrainState
from vision_jax.training.checkpoint import Which
from vision_jax.training.loop import Evaluator, initial_state
from vision_jax.training.steps import DataParallel

Images = Any
"""A source, or what `data.arrays.as_pixels` takes: (N, H, W, C) pixels in [0, 255] or [0, 1]."""


def load_run(
    workdir: str | Path, which: Which = "best", *, data: str | Path | None = None
) -> "Run":
    """Load a trained run.

    Args:
        workdir: the run's folder.
        which: `best` by the validation metric, `last`, or a step.
        data: where the run's data is now, a data set's name or a folder; by default where it was in
            training. An imported run has no data until it is told here.

    Returns:
        The run at that checkpoint.

    Raises:
        InputError: the folder holds no run, or no whole checkpoint of that kind.

    >>> import vision_jax
    >>> run = vision_jax.load_run("runs/quickstart/cnn")  # after `vision-jax quickstart`
    >>> len(run.embed(run.source("test")))
    360
    """
    workdir = Path(workdir)
    config = read_config(workdir)
    parallel = DataParallel.over()
    with contextlib.closing(open_checkpoints(workdir, config)) as checkpoints:
        step = checkpoints.find(which)
        if step is None:
            raise InputError(f"{workdir} holds no checkpoint yet; train it for an epoch first")
        info = read_info(checkpoints, step, config)
        task = build_task(config, info)
        state = jax.eval_shape(lambda: initial_state(task, config.seed, info.image_shape))
        restored = checkpoints.restore(step, state=parallel.replicated(state))
    if data is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, name=str(data)))
    return Run(workdir, config, info, step, task, parallel.to_own(restored["state"]), parallel)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained model, and what it was trained on.

    Attributes:
        workdir: the run's folder.
        config: what was trained.
        info: the data's shape and classes.
        step: the checkpoint's step.
        task: what was trained, as pure functions.
        state: the checkpoint's state, on every device.
        parallel: the devices.

    >>> import vision_jax
    >>> run = vision_jax.load_run("runs/quickstart/cnn")  # after `vision-jax quickstart`
    >>> import numpy as np
    >>> images = [example["image"] for example in run.source("test").read([0, 1])]
    >>> run.predict(np.stack(images)).shape  # probabilities
    (2, 10)
    """

    workdir: Path
    config: TrainConfig
    info: DataInfo
    step: int
    task: Task
    state: TrainState
    parallel: DataParallel
    # pmap compiles anew for every new function.
    _mapped: dict[Hashable, Any] = dataclasses.field(default_factory=dict, repr=False)

    @cached_property
    def _data(self) -> DataSet:
        # Opened once: a folder's listing takes a while, and is asked for by each split.
        name = self.config.data.name
        if not name:
            raise InputError(
                f"{self.workdir} holds imported weights and has no data of its own; data.name is "
                "needed, a data set's name or a folder"
            )
        if Path(name).is_absolute() and not Path(name).exists():
            raise InputError(
                f"{name}, the data of the run in {self.workdir}, is not there; data.name must say "
                "where it is now, in Python load_run(workdir, data=…)"
            )
        return open_config_data(self.config.data)

    @cached_property
    def splits(self) -> Splits:
        """The splits of the run's data, (train, validation, test)."""
        return chosen_splits(self.config.data, self._data)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the weights and of what is done to images before them.

        Runs of equal identity embed images alike, wherever their folders are.
        """
        data, state = self.config.data, self.state
        told = {
            "task": self.config.task,
            "model": json.loads(self.config.to_json())["model"],
            "image_shape": self.info.image_shape,
            "data": {name: getattr(data, name) for name in _PREPROCESSING},
        }
        resize = Resize(*data.resize)
        if resize != Resize():  # what earlier versions could not say must not change their hash
            told["resize"] = resize._asdict()
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path((state.variables, state.average)):
            rows = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {rows.dtype} {rows.shape}".encode())
            digest.update(rows.tobytes())
        return digest.hexdigest()

    def has_classes(self, source: Source) -> bool:
        """Whether the labels of a source mean the classes that the run tells apart."""
        return source.label_names == self.info.label_names

    def predict(self, images: Images) -> Float[np.ndarray, "images classes"]:
        """Classify images.

        Args:
            images: a source, or (N, H, W, C) uint8 in [0, 255] or floats in [0, 1]; see
                `data.arrays.as_pixels` for all that is taken.

        Returns:
            (N, classes) probabilities.

        Raises:
            InputError: the run is no classifier, or the images have another shape than its own.
        """
        task = self.task
        if not isinstance(task, Classifies):
            raise self._lacks("a classifier")
        return self.map_images(
            lambda state, pixels: jax.nn.softmax(task.logits(state, pixels)), images, "predicting"
        )

    def embed(self, images: Images) -> Float[np.ndarray, "images features"]:
        """Turn images into the vectors that search compares.

        Args:
            images: a source, or (N, H, W, C) uint8 in [0, 255] or floats in [0, 1]; see
                `data.arrays.as_pixels` for all that is taken.

        Returns:
            (N, D) float32.

        Raises:
            InputError: the images have another shape than the run's own.
        """
        return self.map_images(self.task.embed, images, "embedding")

    def reconstruct(self, images: Images) -> Float[np.ndarray, "images height width channels"]:
        """Encode images and decode them again.

        Args:
            images: a source, or (N, H, W, C) uint8 in [0, 255] or floats in [0, 1]; see
                `data.arrays.as_pixels` for all that is taken.

        Returns:
            (N, H, W, C) float32 in [0, 1].

        Raises:
            InputError: the run is no autoencoder, or the images have another shape than its own.
        """
        if not isinstance(self.task, Reconstructs):
            raise self._lacks("an autoencoder")
        return self.map_images(self.task.reconstruct, images, "reconstructing")

    @property
    def latent_size(self) -> int | None:
        """Width of the latents that `generate` draws; None if the run makes no new images."""
        return self.task.latent_size if isinstance(self.task, Generates) else None

    def generate(
        self, count: int, *, seed: int = 0
    ) -> Float[np.ndarray, "images height width channels"]:
        """Make new images from latents drawn from the standard normal.

        Args:
            count: how many.
            seed: seed of the latents; with the same one a longer draw begins with the shorter one.

        Returns:
            (count, H, W, C) float32 in [0, 1].

        Raises:
            InputError: the run is neither a GAN nor a variational autoencoder.
        """
        if self.latent_size is None:
            raise self._lacks("a GAN or a variational autoencoder")
        key = jax.random.key(np.uint32(seed))
        return self.decode(np.asarray(sample_latents(key, count, self.latent_size)))

    def decode(
        self, latents: Float[np.ndarray, "images latent"]
    ) -> Float[np.ndarray, "images height width channels"]:
        """Turn latents, or an autoencoder's codes, into images.

        Args:
            latents: (N, D) float32.

        Returns:
            (N, H, W, C) float32 in [0, 1].

        Raises:
            InputError: the run is neither a GAN nor an autoencoder.
        """
        if not isinstance(self.task, Decodes):
            raise self._lacks("a GAN or an autoencoder")
        decode = self.task.decode
        return self._map(lambda state, rows: decode(state, *rows), latents, "decoding")

    def evaluate(self, split: str | Source | None = None) -> dict[str, Any]:
        """Evaluate on a split of the run's data.

        Args:
            split: tfds's slicing syntax, or what `source` returned for it; the config's test split
                by default.

        Returns:
            Floats, and host arrays of counts such as `confusion`, by name.

        Raises:
            InputError: no such split.
        """
        source = split if isinstance(split, Source) else self.source(split)
        self._check_shape(source.image_shape)
        if self.task.needs.labels:
            check_classes(self.info, source, self.workdir)
        loader = split_loader(self.config, source, self.parallel, train=False)
        return Evaluator(self.task, loader, self.parallel)(self.state)

    def source(self, split: str | None = None) -> Source:
        """Open a split of the run's data; the config's test split by default.

        Raises:
            InputError: no such split, its classes are no longer those that were learnt, or the run
                is imported and has no data.
        """
        source = self._data.source(split or self.splits.test)
        if self.config.trains and self.task.needs.labels:
            check_classes(self.info, source, self.workdir)
        return source

    def open_images(self, name: str, split: str, *, bad_files: BadFiles | None = None) -> Source:
        """Open a data set or folder in this run's image shape.

        Args:
            name: a data set's name or a folder.
            split: tfds's slicing syntax.
            bad_files: see `open_source`; what the run's config says by default.

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
            crop=data.resize[0],
            interpolation=data.resize[1],
            channels=self.info.image_shape[-1],
            bad_files=bad_files or data.bad_files,
        )
        self._check_shape(source.image_shape)
        return source

    def read_images(self, paths: Sequence[str | Path]) -> UInt8[np.ndarray, "images h w c"]:
        """Read image files in this run's image shape.

        Args:
            paths: the files.

        Returns:
            (N, H, W, C) uint8.

        Raises:
            InputError: a file is unreadable, or cannot be brought to the run's shape.
        """
        channels, data = self.info.image_shape[-1], self.config.data
        resize = Resize(*data.resize)
        images = [
            read_image(path, channels=channels, size=self._size, resize=resize) for path in paths
        ]
        for path, image in zip(paths, images, strict=True):
            check_shape(image, self.info.image_shape, str(path))
        return np.stack(images)

    @property
    def _size(self) -> int | None:
        height, width, _ = self.info.image_shape
        return height if height == width else None

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != self.info.image_shape:
            raise InputError(
                f"images have shape {tuple(shape)}; the run in {self.workdir} takes "
                f"{self.info.image_shape}"
            )

    def _lacks(self, needed: str) -> InputError:
        made = f"a run of `train {self.config.name}`" if self.config.trains else "an imported model"
        if not (self.config.trains or isinstance(self.task, Classifies)):
            made += " without an output layer, and so no classifier"
        return InputError(f"{self.workdir} is {made}; {needed} is needed here")

    def map_images(
        self,
        function: Callable[..., Array],
        images: Images,
        verb: str,
        *,
        extras: Sequence[np.ndarray] = (),
        name: Hashable = None,
    ) -> np.ndarray:
        """Apply a function to many images in parts, all devices at work.

        Args:
            function: `(state, images, *extras) -> rows`, one row per image; images are float32 in
                [0, 1].
            images: a source, or (N, H, W, C) uint8 in [0, 255] or floats in [0, 1]; see
                `data.arrays.as_pixels` for all that is taken.
            verb: what the progress bar says.
            extras: (N, ...) more rows, which go to the function with their images.
            name: what tells functions apart, which are compiled once for each name and dtype of
                images; `verb` by default.

        Returns:
            (N, ...) what the function returned.

        Raises:
            InputError: the images have another shape than the run's own.
        """

        def of_pixels(state: Any, rows: tuple[Array, ...]) -> Array:
            pixels, *extras = rows
            pixels = to_float(pixels) if pixels.dtype == np.uint8 else pixels
            return function(state, pixels, *extras)

        return self._map(of_pixels, self.as_rows(images), verb, extras, name or verb)

    def as_rows(self, images: Images) -> np.ndarray | Source:
        """Check images: a source as it is, others as uint8 or float32 in [0, 1].

        Raises:
            InputError: the images have another shape than the run's own.
        """
        if not isinstance(images, Source):
            images = as_pixels(images, image_shape=self.info.image_shape)
        self._check_shape(images.image_shape if isinstance(images, Source) else images.shape[1:])
        return images

    def _map(
        self,
        function: Function,
        rows: np.ndarray | Source,
        verb: str,
        extras: Sequence[np.ndarray] = (),
        name: Hashable = None,
    ) -> np.ndarray:
        """Apply a function of the state and many rows; see `map_images`."""
        name = name or verb
        if not len(rows):
            return map_no_rows(function, self.state, rows, extras)
        if name not in self._mapped:
            self._mapped[name] = self.parallel.map_images(function)
        mapped, lanes = self._mapped[name], self.parallel.lanes
        return map_rows(mapped, self.state, rows, extras, self._sizes, lanes=lanes, verb=verb)

    @property
    def _sizes(self) -> tuple[int, ...]:
        """Rows that are computed at a time, largest first; each size is compiled once."""
        height, width, _ = self.info.image_shape
        return self.parallel.row_sizes(height * width)


_PREPROCESSING = ("image_size", "channels", "mean", "std")
