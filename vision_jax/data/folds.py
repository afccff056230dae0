"""K folds: the training images of a data set divided into parts, one of them held out."""

import dataclasses

import numpy as np
from jaxtyping import Integer

from vision_jax.data.data_set import DataSet
from vision_jax.data.sources import Source, Subset
from vision_jax.data.splits import canonical, parts_of
from vision_jax.errors import InputError

_VALIDATION = 10  # one in so many of the rest


@dataclasses.dataclass(frozen=True)
class FoldedData(DataSet):
    """A data set whose training split is divided anew: `train`, `validation` and `test`.

    `test` is the part that is held out, `validation` a tenth of the rest. Each has its share of
    every class. The data set's own splits for validation and test are left untouched.

    Attributes:
        whole: the training split of the data set.
        places: positions in it, by split.
    """

    whole: Source
    places: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, data: DataSet, fold: tuple[int, int], *, seed: int = 0) -> "FoldedData":
        """Divide a data set.

        Args:
            data: the data set.
            fold: (number, count): which part is held out, counted from 1, of how many.
            seed: seed of the division.

        Raises:
            InputError: there is no training split, or it has fewer images of a class than parts.
        """
        number, count = fold
        name = next((name for name in data.sizes if canonical(name) == "train"), None)
        if name is None:
            raise InputError(
                f"{data.name} has the splits {', '.join(data.sizes)}; a split to train on is "
                "needed for folds"
            )
        whole = data.source(name)
        _check(whole, count)
        parts = assigned(_labels(whole), count, seed)
        order = _spread(_labels(whole), seed)
        rest = [place for place in order.tolist() if parts[place] != number - 1]
        chosen = {
            "train": [place for i, place in enumerate(rest) if i % _VALIDATION],
            "validation": rest[::_VALIDATION],
            "test": np.flatnonzero(parts == number - 1).tolist(),
        }
        places = {split: tuple(sorted(of)) for split, of in chosen.items()}
        sizes = {split: len(of) for split, of in places.items()}
        return cls(data.name, sizes, whole, places)

    def source(self, split: str) -> Source:
        """Open a split; see `DataSet.source`."""
        parts = parts_of(self.sizes, split, self.name)
        chosen = [i for part in parts for i in self.places[part.split][part.start : part.stop]]
        part = Subset.of(self.whole, chosen, skipped=self.whole.skipped)
        return dataclasses.replace(part, split=split)


def assigned(
    labels: Integer[np.ndarray, " examples"], count: int, seed: int
) -> Integer[np.ndarray, " examples"]:
    """Assign examples to parts, as many of each class to each part as divides evenly.

    Args:
        labels: (N,) labels; all the same without.
        count: number of parts.
        seed: seed of the division.

    Returns:
        (N,) in [0, count). The sizes of two parts differ by at most 1, in all and in each class.
    """
    parts = np.empty(len(labels), np.int32)
    parts[_spread(labels, seed)] = np.arange(len(labels)) % count
    return parts


def _spread(
    labels: Integer[np.ndarray, " examples"], seed: int
) -> Integer[np.ndarray, " examples"]:
    """Order examples by class, at random within each."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def _labels(source: Source) -> Integer[np.ndarray, " examples"]:
    labels = source.labels()
    return np.zeros(len(source), np.int32) if labels is None or labels.ndim > 1 else labels


def _check(source: Source, count: int) -> None:
    counts = np.bincount(_labels(source))
    present = np.flatnonzero(counts)
    smallest = int(present[np.argmin(counts[present])])
    if count > counts[smallest]:
        names = source.label_names
        whose = f"those of the smallest class, {names[smallest]!r}" if names else "all there are"
        raise InputError(
            f"folds is {count}; it must be at most {counts[smallest]}, the images of "
            f"{source.name}, {source.split}: {whose}"
        )
