"""Batches that hold several images of each of some classes."""

import dataclasses
from functools import lru_cache

import numpy as np
from jaxtyping import Integer

from vision_jax.data.sources import Source
from vision_jax.errors import InputError

_LEAST = 4
_NAMED = 4


@dataclasses.dataclass(frozen=True, eq=False)
class ClassBatches:
    """Which images a training step takes: as many of each of some classes.

    A step's batch is a pure function of its number. Steps are dealt in rounds: each round shuffles
    the classes and gives every batch others of them; what is left over sits the round out. A class
    goes through its images, shuffled anew each time, before one comes again.

    Attributes:
        positions: of each class's images in the source.
        classes: how many of them a batch holds.
        per_class: images of each.
        seed: seed of the shuffling.
    """

    positions: tuple[Integer[np.ndarray, "..."], ...]
    classes: int
    per_class: int
    seed: int

    @classmethod
    def of(cls, source: Source, batch_size: int, per_class: int, seed: int) -> "ClassBatches":
        """Group a labelled source's images.

        Args:
            source: the images.
            batch_size: images per batch, a multiple of `per_class`.
            per_class: images of a class, at least 2.
            seed: seed of the shuffling.

        Raises:
            InputError: the source has no labels, too few classes, or too few images of one.
        """
        labels, names = source.labels(), source.label_names
        if labels is None or names is None:
            raise InputError(
                f"{source.name} has no labels; images_per_class {per_class} needs them"
            )
        if per_class < 2 or batch_size % per_class:
            raise InputError(
                f"images_per_class is {per_class}; it must be at least 2 and divide batch_size, "
                f"{batch_size}"
            )
        classes, there = batch_size // per_class, np.unique(labels)
        if classes > len(there):
            raise InputError(
                f"{source.name}, split {source.split!r}, has images of {len(there)} classes; a "
                f"batch_size of {batch_size} with images_per_class {per_class} needs {classes}"
            )
        positions = tuple(np.flatnonzero(labels == label) for label in there)
        few = [(names[k], len(p)) for k, p in zip(there, positions, strict=True)]
        few = [(name, count) for name, count in few if count < per_class]
        if few:
            told = ", ".join(f"{count} of {name}" for name, count in few[:_NAMED])
            more = f" and {len(few) - _NAMED} more classes" if len(few) > _NAMED else ""
            raise InputError(
                f"{source.name}, split {source.split!r}, has too few images: {told}{more}; "
                f"images_per_class {per_class} needs as many of each class"
            )
        return cls(positions, classes, per_class, seed)

    def indices(self, step: int) -> Integer[np.ndarray, " batch"]:
        """Return a step's images, those of a class side by side.

        Args:
            step: counted from the start of training.

        Returns:
            (batch,) positions in the source.
        """
        a_round, place = divmod(step, len(self.positions) // self.classes)
        order = _shuffled(self.seed, a_round, 0, len(self.positions))
        chosen = order[place * self.classes : (place + 1) * self.classes]
        return np.concatenate([self._images(int(label), a_round) for label in chosen])

    def _images(self, label: int, a_round: int) -> Integer[np.ndarray, " images"]:
        own = self.positions[label]
        cycle, place = divmod(a_round, len(own) // self.per_class)
        order = _shuffled(self.seed, cycle, label + 1, len(own))
        return own[order[place * self.per_class : (place + 1) * self.per_class]]


@lru_cache(maxsize=4096)
def _shuffled(seed: int, time: int, which: int, count: int) -> Integer[np.ndarray, " items"]:
    return np.random.default_rng([seed, time, which]).permutation(count)


def fitting_per_class(batch_size: int, classes: int) -> int:
    """Choose how many images of a class a batch holds: 4, or more where there are few classes.

    Args:
        batch_size: images per batch.
        classes: that there are.

    Returns:
        The smallest divisor of the batch size from 4 on with which the classes suffice.
    """
    fits = (n for n in range(_LEAST, batch_size) if not batch_size % n)
    return next((n for n in fits if batch_size // n <= classes), batch_size)
