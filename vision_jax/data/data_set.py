"""A data set or folder, opened once to take splits of it."""

import abc
import dataclasses

from vision_jax.data.findings import Finding, warn_of
from vision_jax.data.sources import Source
from vision_jax.data.splits import Part, Splits, canonical, default_splits, parts_of
from vision_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class DataSet(abc.ABC):
    """A data set or folder. Subclasses say where it comes from.

    Attributes:
        name: the data set's name or the folder.
        sizes: the number of examples of each named split, bad files among them.
    """

    name: str
    sizes: dict[str, int]

    @abc.abstractmethod
    def source(self, split: str) -> Source:
        """Open a split.

        Args:
            split: tfds's slicing syntax, such as `train`, `train[:90%]` or `all`.

        Raises:
            InputError: there is no such split, it is empty, or it holds no usable image.
        """

    def overlap(self, split: str, other: str) -> int:
        """Count the examples that two splits, in slicing syntax, share."""
        one, two = (parts_of(self.sizes, part, self.name) for part in (split, other))
        return _overlap(one, two)

    def choose_splits(
        self, train: str | None = None, validation: str | None = None, test: str | None = None
    ) -> Splits:
        """Choose the splits of a training run, and warn of what is unusual about them.

        Args:
            train: what to train on; None leaves each to `splits.default_splits`.
            validation: what to choose the checkpoint by.
            test: what to report.

        Returns:
            The three expressions. Each holds an example.

        Raises:
            InputError: there is no such split, it is empty, or there is none to train on.
        """
        splits, findings = self.plan(train, validation, test)
        if findings:
            warn_of(f"training on {self.name}", findings, self.name)
        return splits

    def plan(
        self, train: str | None = None, validation: str | None = None, test: str | None = None
    ) -> tuple[Splits, list[Finding]]:
        """Choose splits as `choose_splits` does, and return what is unusual instead of warning."""
        given = Splits(train or "", validation or "", test or "")
        splits = given
        if not all(given):
            try:
                default = default_splits(self.sizes, self.name)
            except InputError:
                if not (train and validation):
                    raise
                default = Splits(train, validation, validation)
            splits = Splits(*(a or b for a, b in zip(given, default, strict=True)))
        parts = [parts_of(self.sizes, split, self.name) for split in splits]
        found = []
        if not validation and "[" in splits.validation and _count(parts[1]) == 1:
            what = "is one image, which alone chooses the checkpoint"
            found.append(Finding(splits.validation, what, False))
        if not test and not any(canonical(name) == "test" for name in self.sizes):
            what = "is reported at the end, since there is no test split"
            found.append(Finding(splits.test, what, False))
        for use, others in zip(Splits._fields[1:], parts[1:], strict=True):
            if shared := _overlap(parts[0], others):
                what = f"shares {shared} examples with what is trained on, {splits.train}"
                found.append(Finding(use, what, False))
        return splits, found + self._unusual_labels(splits, parts)

    def _unusual_labels(self, splits: Splits, parts: list[list[Part]]) -> list[Finding]:
        """List what is unusual about the labels of each split, where they are known unread."""
        del splits, parts
        return []


def _count(parts: list[Part]) -> int:
    return sum(part.stop - part.start for part in parts)


def _overlap(a: list[Part], b: list[Part]) -> int:
    """Count the examples that two expressions share."""
    pairs = [(p, q) for p in a for q in b if p.split == q.split]
    return sum(max(0, min(p.stop, q.stop) - max(p.start, q.start)) for p, q in pairs)
