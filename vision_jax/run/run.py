"""A run: a model trained in a folder or imported to it, and what it can be asked."""

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from vision_jax.checked import require
from vision_jax.config import TrainConfig
from vision_jax.data.arrays import as_pixels
from vision_jax.data.catalog import open_data
from vision_jax.data.data_set import DataSet
from vision_jax.data.findings import warn_once
from vision_jax.data.folder_tree import FILES
from vision_jax.data.folders import FolderData, FolderSource
from vision_jax.data.info import DataInfo
from vision_jax.data.records import TfdsData
from vision_jax.data.resize import Resize, Size
from vision_jax.data.sources import BadFiles, Source
from vision_jax.data.splits import Splits
from vision_jax.errors import InputError
from vision_jax.models.map_size import map_bytes
from vision_jax.run.build import build_task
from vision_jax.run.calibration import Calibration, read_calibration
from vision_jax.run.classes import ClassMatch, match_classes
from vision_jax.run.data import chosen_splits, open_config_data, open_told_data, split_loader
from vision_jax.run.identity import identity_of
from vision_jax.run.mapping import Function, RowMap, on_pixels
from vision_jax.run.views import check_views
from vision_jax.run.workdir import last_start, open_checkpoints, read_config, read_info
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
        info = read_info(checkpoints, step, config, start=last_start(workdir))
        task = build_task(config, info)
        shapes = jax.eval_shape(lambda: initial_state(task, config.seed, info.image_shape))
        restored = checkpoints.restore(step, state=parallel.replicated(shapes))
        state = parallel.to_own(restored["state"])
    if data is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, name=str(data)))
    return Run(workdir, config, info, step, task, state, parallel, told=data is not None)


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
        told: whether `load_run` was told its data, whose images are brought to the run's shape.

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
    told: bool = False

    def __repr__(self) -> str:
        return f"Run({str(self.workdir)!r}, step {self.step}, images {self.info.image_shape})"

    def _repr_html_(self) -> str:
        from vision_jax.run.card import run_html  # which takes matplotlib

        return run_html(self.workdir, self.config, self.info, self.step, self.source)

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
        data = self.config.data
        if not self.told:
            return open_config_data(data)
        size, channels = data.image_size or self._size, self.info.image_shape[-1]
        told = dataclasses.replace(data, image_size=size, channels=channels)
        return open_told_data(told, self.info)

    @cached_property
    def splits(self) -> Splits:
        """The splits of the run's data, (train, validation, test)."""
        return chosen_splits(self.config.data, self._data)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the weights and of what is done to images before them.

        Runs of equal identity embed images alike, wherever their folders are.
        """
        return identity_of(self.config, self.info, self.state)

    def match_classes(self, source: Source) -> ClassMatch:
        """Match the classes of other data with the run's by name; see `run.classes.match_classes`.

        Raises:
            InputError: they have no class in common; or, with several labels an image, others.
        """
        names, several = self.info.label_names, self.info.multi_label
        return match_classes(source, names, f"the run in {self.workdir}", multi_label=several)

    def predict(self, images: Images) -> Float[np.ndarray, "images classes"]:
        """Classify images.

        Args:
            images: a source, or (N, H, W, C) uint8 in [0, 255] or floats in [0, 1]; see
                `data.arrays.as_pixels` for all that is taken.

        Returns:
            (N, classes) probabilities at the run's `temperature`, which sum to 1; of several
            labels an image each by itself.

        Raises:
            InputError: the run is no classifier, or the images have another shape than its own.
        """
        return np.concatenate(list(self.predict_parts(images)))

    def predict_parts(self, images: Images) -> Iterator[Float[np.ndarray, "part classes"]]:
        """Classify images part by part, in order, in memory that does not grow with their number.

        Args:
            images: see `predict`; a source is read as the parts are taken.

        Returns:
            Parts of what `predict` returns; one that is empty if there are no images.

        Raises:
            InputError: see `predict`.
        """
        task, temperature = self._classifier(), jnp.float32(self.temperature)
        activate = jax.nn.sigmoid if self.info.multi_label else jax.nn.softmax

        def shares(state: Any, pixels: Array) -> Array:
            return activate(task.logits(state, pixels) / temperature)

        return self._rows.parts(on_pixels(shares), self.as_rows(images), "predicting")

    def logits(self, images: Images) -> Float[np.ndarray, "images classes"]:
        """Score each class, whatever the run's `temperature`.

        Args:
            images: see `predict`.

        Returns:
            (N, classes) logits.

        Raises:
            InputError: see `predict`.
        """
        return self.map_images(self._classifier().logits, images, "scoring")

    @cached_property
    def calibration(self) -> Calibration | None:
        """What `evaluation.calibration.calibrate` wrote for this checkpoint; None without.

        Raises:
            InputError: the file is damaged.
        """
        return read_calibration(self.workdir, self.step, lambda: self.identity)

    @property
    def temperature(self) -> float:
        """What `predict` divides logits by: that of `calibration`, or 1."""
        return self.calibration.temperature if self.calibration else 1.0

    def _classifier(self) -> Classifies:
        if not isinstance(self.task, Classifies):
            raise self._lacks("a classifier")
        return self.task

    def embed(self, images: Images, *, views: int = 1) -> Float[np.ndarray, "images features"]:
        """Turn images into the vectors that search compares.

        Several views of each image take as many times as long, and often find more: their vectors
        are brought to length 1, averaged, and brought to length 1 again.

        Args:
            images: a source, or (N, H, W, C) uint8 in [0, 255] or floats in [0, 1]; see
                `data.arrays.as_pixels` for all that is taken.

            views: 1: the image; 2: and its mirror image; 5: its centre and corners; 10: these and
                their mirror images. See `run.views.take_views`.

        Returns:
            (N, D) float32.

        Raises:
            InputError: the images have another shape than the run's own, or `views` is another
                number.
        """
        check_views(views)
        return self.map_images(self.task.embed, images, "embedding", views=views)

    def embed_parts(
        self, images: Images, *, views: int = 1, progress: bool = True
    ) -> Iterator[Float[np.ndarray, "part features"]]:
        """Embed images part by part, in order, in memory that does not grow with their number.

        Args:
            images: see `embed`; a source is read as the parts are taken.
            views: see `embed`.
            progress: whether to show a progress bar.

        Returns:
            Parts of what `embed` returns; one that is empty if there are no images.

        Raises:
            InputError: see `embed`.
        """
        check_views(views)
        rows, function = self.as_rows(images), on_pixels(self.task.embed)
        return self._rows.parts(function, rows, "embedding", views=views, shown=progress)

    def alone(self) -> "Run":
        """Return the run on this process's own devices, for work that processes divide."""
        parallel = DataParallel.own()
        state = parallel.replicate(self.state)
        return dataclasses.replace(self, parallel=parallel, state=state)

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
        require(0 <= seed < 2**32, "seed", seed, "in [0, 2**32)")
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
        parts = self._rows.parts(lambda state, rows: decode(state, *rows), latents, "decoding")
        return np.concatenate(list(parts))

    def evaluate(self, split: str | Source | None = None) -> dict[str, Any]:
        """Evaluate on a split of the run's data.

        Args:
            split: tfds's slicing syntax, or what `source` returned for it; the config's test split
                by default.

        Returns:
            Floats, and host arrays of counts such as `confusion`, by name. A classifier's are of
            the images whose class it knows, by name; a `DataWarning` counts the others.

        Raises:
            InputError: no such split, or it has no class that a classifier has learnt.
        """
        if isinstance(split, Source):
            source = split
        else:
            with contextlib.suppress(InputError):  # the training images may be gone
                self.check_training_images(self.source(self.splits.train))
            source = self.source(split)
        self._check_shape(source.image_shape)
        if isinstance(self.task, Classifies):
            match = self.match_classes(source)
            source = match.source
            if match.unknown:
                warn_once(f"{source.name}, {source.split}: {match.notes()[0]}")
        loader = split_loader(self.config, source, self.parallel, train=False)
        return Evaluator(self.task, loader, self.parallel)(self.state)

    def source(self, split: str | None = None) -> Source:
        """Open a split of the run's data; the config's test split by default.

        Raises:
            InputError: no such split, or the run is imported and has no data.
        """
        return self._data.source(split or self.splits.test)

    def check_training_images(self, train: Source) -> None:
        """Warn if the run's own data no longer has the number of training images it learned from.

        Added files move the division of a folder or listing, and so training images into its test
        split. Data that the run was told is not counted.

        Args:
            train: the training split as it is now.
        """
        if not self.told and len(train) != self.info.train_examples:
            warn_once(
                f"{train.name} has {len(train)} images at {train.split!r}; the run in "
                f"{self.workdir} was trained on {self.info.train_examples}: its data has "
                "changed, and its test images may have been trained on"
            )

    def shared(self, split: str, other: str) -> int:
        """Count the images of the run's data that two splits share."""
        return self._data.overlap(split, other)

    def open_images(
        self, name: str | Path, split: str, *, bad_files: BadFiles | None = None
    ) -> Source:
        """Open a data set or folder in this run's image shape.

        Args:
            name: a data set's name or a folder.
            split: tfds's slicing syntax.
            bad_files: see `open_source`; what the run's config says by default.

        Raises:
            InputError: there is none, or its images cannot be brought to the run's shape.
        """
        source = self.open_data(name, labels=split != FILES, bad_files=bad_files).source(split)
        self._check_shape(source.image_shape)
        return source

    def open_data(
        self, name: str | Path, *, labels: bool = True, bad_files: BadFiles | None = None
    ) -> FolderData | TfdsData:
        """Open a data set or folder once, to take several splits of it; see `open_images`.

        Args:
            name: see `open_images`.
            labels: see `data.catalog.open_data`.
            bad_files: see `open_images`.
        """
        data = self.config.data
        return open_data(
            name,
            data_dir=data.data_dir,
            manual_dir=data.manual_dir if name == data.name else None,
            image_size=self._size,
            crop=data.resize[0],
            interpolation=data.resize[1],
            fit=data.resize[2],
            channels=self.info.image_shape[-1],
            bad_files=bad_files or data.bad_files,
            truncated=data.truncated,
            links=data.links,
            labels=labels,
        )

    def read_images(self, paths: Sequence[str | Path]) -> UInt8[np.ndarray, "images h w c"]:
        """Read image files in this run's image shape.

        Args:
            paths: the files.

        Returns:
            (N, H, W, C) uint8.

        Raises:
            InputError: a file is unreadable, or cannot be brought to the run's shape.
        """
        return np.stack([row["image"] for row in self.open_files(paths).read(range(len(paths)))])

    def open_files(self, paths: Sequence[str | Path]) -> FolderSource:
        """Open image files in this run's image shape; each is first looked at as it is read."""
        return FolderSource(
            "files",
            FILES,
            self.info.image_shape,
            None,
            tuple(map(Path, paths)),
            None,
            self._size,
            (FILES,) * len(paths),
            truncated=self.config.data.truncated,
            resize=Resize(*self.config.data.resize),
        )

    @property
    def _size(self) -> Size:
        height, width, _ = self.info.image_shape
        return height if height == width else (height, width)

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
        views: int = 1,
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
            views: how many views of each image to average, see `embed`.

        Returns:
            (N, ...) what the function returned.

        Raises:
            InputError: the images have another shape than the run's own.
        """
        rows = self.as_rows(images)
        parts = self._rows.parts(on_pixels(function), rows, verb, extras, name, views)
        return np.concatenate(list(parts))

    def compiled(self, name: Hashable, function: Function) -> Callable[[Any, Any], np.ndarray]:
        """Spread a function of rows over the devices; see `RowMap.compiled`."""
        return self._rows.compiled(name, function)

    def as_rows(self, images: Images) -> np.ndarray | Source:
        """Check images: a source as it is, others as uint8 or float32 in [0, 1].

        Raises:
            InputError: the images have another shape than the run's own.
        """
        if not isinstance(images, Source):
            images = as_pixels(images, image_shape=self.info.image_shape)
        self._check_shape(images.image_shape if isinstance(images, Source) else images.shape[1:])
        return images

    @cached_property
    def row_sizes(self) -> tuple[int, ...]:
        """How many images an inference takes, largest first; see `Devices.row_sizes`."""
        return self.parallel.row_sizes(
            lambda: map_bytes(self.task.apply, self.state, self.info.image_shape)
        )

    @cached_property
    def _rows(self) -> RowMap:
        return RowMap(self.state, self.parallel, lambda: self.row_sizes)
