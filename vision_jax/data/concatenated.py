"""Several sources, one after the other, as one."""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from vision_jax.data.sources import Example, Source
from vision_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenated(Source):
    """The examples of several sources, each keeping its own name for them.

    Attributes:
        parts: the sources, in order.
    """

    parts: tuple[Source, ...]

    @classmethod
    def of(cls, parts: Sequence[Source]) -> "Concatenated":
        """Joins sources.

        Args:
            parts: at least 1, of one image shape and the same classes.

        Raises:
            InputError: the shapes or the classes differ.
        """
        first = parts[0]
        for part in parts[1:]:
            if part.image_shape != first.image_shape:
                raise InputError(
                    f"{part.name} {part.split} has images of shape {part.image_shape}; "
                    f"{first.image_shape} as in {first.split} is needed"
                )
            if part.label_names != first.label_names:
                raise InputError(f"{part.split} and {first.split} of {first.name} differ in labels")
        split = "+".join(part.split for part in parts)
        return cls(first.name, split, first.image_shape, first.label_names, tuple(parts))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Reads examples; see `Source.read`."""
        places = [self._place(index) for index in indices]
        rows = [
            iter(part.read([i for its, i in places if its == number]))
            for number, part in enumerate(self.parts)
        ]
        return [next(rows[number]) for number, _ in places]

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """The labels of all examples; see `Source.labels`."""
        labels = [part.labels() for part in self.parts]
        known = [rows for rows in labels if rows is not None]
        return np.concatenate(known) if len(known) == len(labels) else None

    def digests(self) -> list[str]:
        """A SHA-256 of each example; see `Source.digests`."""
        return [digest for part in self.parts for digest in part.digests()]

    def splits(self) -> list[str]:
        """The split of each example; see `Source.splits`."""
        return [split for part in self.parts for split in part.splits()]

    def key(self, index: int) -> str:
        """Names the example at an index; see `Source.key`."""
        number, place = self._place(index)
        return self.parts[number].key(place)

    def _place(self, index: int) -> tuple[int, int]:
        """The part that an example is in, and where in it."""
        ends = list(itertools.accumulate(map(len, self.parts)))
        number = bisect.bisect_right(ends, index)
        return number, index - (ends[number] - len(self.parts[number]))
