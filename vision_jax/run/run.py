"""A run: a config trained in a folder, and what its trained network can be asked."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from tqdm import tqdm

from vision_jax import config as configs
from vision_jax.config import TrainConfig
from vision_jax.data.catalog import open_source
from vision_jax.data.decode import read_image
from vision_jax.data.loader import to_float
from vision_jax.data.sources import BadFiles, Source, check_shape
from vision_jax.errors import InputError
from vision_jax.run.build import About, build_task
from vision_jax.run.data import open_split, row_chunks, split_loader
from vision_jax.run.workdir import (
    check_classes,
    open_checkpoints,
    read_about,
)
from vision_jax.tasks.adversarial import Adversarial
from vision_jax.tasks.base import Task, TrainState
from vision_jax.tasks.classification import Classification
from vision_jax.tasks.latents import sample_latents
from vision_jax.tasks.reconstruction import Reconstruction
from vision_jax.training.checkpoint import Which
from vision_jax.training.loop import Evaluator, initial_state
from vision_jax.training.steps import DataParallel

Images = (
    UInt8[np.ndarray, "images height width channels"]
    | Float[np.ndarray, "images height width channels"]
    | Source
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
    with contextlib.closing(open_checkpoints(workdir, config)) as checkpoints:
        step = checkpoints.find(which)
        if step is None:
            raise InputError(f"{workdir} holds no checkpoint yet; train it for an epoch first")
        about = read_about(checkpoints, step)
        task = build_task(config, about)
        state = jax.eval_shape(lambda: initial_state(task, config.seed, about.image_shape))
        restored = checkpoints.restore(step, state=parallel.replicated(state))
    state = parallel.to_own(restored["state"])
    return Run(workdir, config, about, step, task, state, parallel)


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
        return self._map_images(
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
        return self._map_images(self.task.embed, images, "embedding")

    def reconstruct(self, images: Images) -> Float[np.ndarray, "images height width channels"]:
        """Encodes images and decodes them again.

        Args:
            images: (N, H, W, C) uint8 in [0, 255] or float in [0, 1], or a source.

        Returns:
            (N, H, W, C) float32 in [0, 1].

        Raises:
            InputError: the run is no autoencoder, or the images have another shape than its own.
        """
        if not isinstance(self.task, Reconstruction):
            raise InputError(f"{self.workdir} holds a run of {self.config.family}, no autoencoder")
        return self._map_images(self.task.reconstruct, images, "reconstructing")

    @property
    def latent_size(self) -> int | None:
        """Width of the latents that `generate` draws; None if the run makes no new images."""
        task = self.task
        return task.latent_size if isinstance(task, Adversarial | Reconstruction) else None

    def generate(
        self, count: int, *, seed: int = 0
    ) -> Float[np.ndarray, "images height width channels"]:
        """Makes new images, from latents drawn from the standard normal.

        Args:
            count: how many.
            seed: of the latents; with the same one a longer draw begins with the shorter one.

        Returns:
            (count, H, W, C) float32 in [0, 1].

        Raises:
            InputError: the run is neither a GAN nor a variational autoencoder.
        """
        if self.latent_size is None:
            raise InputError(
                f"{self.workdir} holds a run of {self.config.family} that makes no new images; "
                "a gan or a variational autoencoder is needed"
            )
        key = jax.random.key(np.uint32(seed))
        return self.decode(np.asarray(sample_latents(key, count, self.latent_size)))

    def decode(
        self, latents: Float[np.ndarray, "images latent"]
    ) -> Float[np.ndarray, "images height width channels"]:
        """Turns latents, or an autoencoder's codes, into images.

        Args:
            latents: (N, D) float32.

        Returns:
            (N, H, W, C) float32 in [0, 1].

        Raises:
            InputError: the run is neither a GAN nor an autoencoder.
        """
        if not isinstance(self.task, Adversarial | Reconstruction):
            raise InputError(f"{self.workdir} holds a run of {self.config.family}, no decoder")
        return self._map(self.task.decode, latents, "decoding")

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
        loader = split_loader(self.config, source, self.parallel, train=False)
        return Evaluator(self.task, loader, self.parallel)(self.state)

    def source(self, split: str | None = None) -> Source:
        """Opens a split of the run's data; the config's test split by default.

        Raises:
            InputError: no such split, or its classes are no longer those that were learnt.
        """
        source = open_split(self.config.data, split or self.config.data.test_split)
        if self.config.family == "cnn":
            check_classes(self.about, source, self.workdir)
        return source

    def open_images(self, name: str, split: str, *, bad_files: BadFiles | None = None) -> Source:
        """Opens a data set or folder in this run's image shape.

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
            channels=self.about.image_shape[-1],
            bad_files=bad_files or data.bad_files,
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

    def _map_images(
        self, function: Callable[[Any, Array], Array], images: Images, verb: str
    ) -> np.ndarray:
        self._check_shape(images.image_shape if isinstance(images, Source) else images.shape[1:])

        def of_pixels(state: Any, pixels: Array) -> Array:
            return function(state, to_float(pixels) if pixels.dtype == np.uint8 else pixels)

        return self._map(of_pixels, images, verb)

    def _map(
        self, function: Callable[[Any, Array], Array], rows: np.ndarray | Source, verb: str
    ) -> np.ndarray:
        """Applies a function of the state and many rows, all devices at work."""
        mapped = self.parallel.map_images(function)
        size = -(-_IMAGES_AT_ONCE // self.parallel.count) * self.parallel.count
        parts = []
        with tqdm(total=len(rows), desc=verb, unit="img", delay=2, leave=False) as bar:
            for part, count in row_chunks(rows, size):
                parts.append(mapped(self.state, part)[:count])
                bar.update(count)
        return np.concatenate(parts)


_IMAGES_AT_ONCE = 256
