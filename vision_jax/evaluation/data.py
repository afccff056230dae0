"""The images a run is measured on: each split opened once, decoded once, embedded once."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from vision_jax.data.sources import Example, Source, Subset
from vision_jax.run.run import Run
from vision_jax.run.views import check_views

_MAX_QUERIES = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationData:
    """A run, and the images to measure it on.

    Attributes:
        run: a trained run.
        test: the images to measure on, which are also what searches look up.
        train: its training images, which searches find.
        shared: how many images are in both.
        views: views of each image whose vectors are averaged, see `Run.embed`.
    """

    run: Run
    test: Source
    train: Source
    shared: int = 0
    views: int = 1

    @classmethod
    def of(cls, run: Run, split: str | None = None, *, views: int = 1) -> "EvaluationData":
        """Open the splits of a run's own data.

        Args:
            run: a trained run.
            split: what to measure on, in tfds's slicing syntax; the run's test split by default.
            views: see the class.

        Raises:
            InputError: no such split.
        """
        check_views(views)
        limit = run.config.data.on_device_mib * 2**20
        test, train = run.source(split), run.source(run.splits.train)
        run.check_training_images(train)
        shared = run.shared(split or run.splits.test, run.splits.train)
        return cls(run, _held(test, limit), _held(train, limit), shared, views)

    @cached_property
    def train_vectors(self) -> Float[np.ndarray, "images features"]:
        """The embeddings of the training images, computed at the first use."""
        return self.run.embed(self.train, views=self.views)

    @cached_property
    def queries(self) -> Source:
        """The test images that searches look up: of more than 10,000, an even choice."""
        return self.test.spaced(_MAX_QUERIES)

    @cached_property
    def query_vectors(self) -> Float[np.ndarray, "images features"]:
        """The embeddings of `queries`, computed at the first use."""
        return self.run.embed(self.queries, views=self.views)


@dataclasses.dataclass(frozen=True, eq=False)
class _Held(Subset):
    """All images of another source, each kept in memory once it has been decoded."""

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples; see `Source.read`."""
        images, labels, decoded = self._memory
        several = self.multi_hot()
        missing = [i for i in indices if not decoded[i]]
        for i, example in zip(missing, self.whole.read(missing), strict=True):
            images[i] = example["image"]
            if labels is not None:
                labels[i] = example["label"]
            decoded[i] = True  # last, since several threads read
        if several is not None:
            return [{"image": images[i], "labels": several[i]} for i in indices]
        if labels is None:
            return [{"image": images[i]} for i in indices]
        return [{"image": images[i], "label": int(labels[i])} for i in indices]

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """Return the labels of all examples; see `Source.labels`."""
        return self._labels

    def multi_hot(self) -> Bool[np.ndarray, "examples labels"] | None:
        """Return which labels each example has; see `Source.multi_hot`."""
        return self.whole.multi_hot()

    @cached_property
    def _labels(self) -> Integer[np.ndarray, " examples"] | None:
        return self.whole.labels()

    @cached_property
    def _memory(
        self,
    ) -> tuple[
        UInt8[np.ndarray, "examples height width channels"],
        Integer[np.ndarray, " examples"] | None,
        Bool[np.ndarray, " examples"],
    ]:
        count = len(self)
        return (
            np.empty((count, *self.image_shape), np.uint8),
            None if self.label_names is None else np.empty(count, np.int32),
            np.zeros(count, bool),
        )


def _held(source: Source, limit: int) -> Source:
    """Hold a source in memory if its images take no more than `limit` bytes."""
    size = len(source) * int(np.prod(source.image_shape))
    if size > limit:
        return source
    held = _Held.of(source, range(len(source)), skipped=source.skipped)
    assert isinstance(held, _Held)
    _ = held._memory  # made before threads may race to make it
    return held
