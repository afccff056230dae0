"""Random access to the images of a data set, a folder, or arrays in memory."""

import abc
import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Literal, TypedDict

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8

from vision_jax import config
from vision_jax.data.arrays import as_images, as_labels
from vision_jax.data.decode import BadImageError
from vision_jax.data.encode import to_pil
from vision_jax.data.exif import Details
from vision_jax.data.resize import WITHIN, to_size
from vision_jax.errors import InputError

BadFiles = Literal[config.BadFiles, "later"]


def evenly_spaced(count: int, most: int) -> Int[np.ndarray, " places"]:
    """Choose at most so many of `count` places, evenly: of sorted classes each has its share."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


class Example(TypedDict, total=False):
    """One image, and its label, or which labels it has, where the source knows them."""

    image: UInt8[np.ndarray, "height width channels"]
    label: int
    labels: Bool[np.ndarray, " labels"]


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """Images in a fixed order, read by index. Subclasses say where they come from.

    Attributes:
        name: the data set's name or the folder.
        split: the part of it, in tfds's slicing syntax.
        image_shape: (height, width, channels) of every image.
        label_names: the classes, in the order of their labels; None without labels, and where an
            image may have several: what compares classes takes such images as unlabelled.
        multi_label_names: the labels of which an image may have any number; None for other sources.
    """

    name: str
    split: str
    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...] | None
    multi_label_names: tuple[str, ...] | None = dataclasses.field(default=None, kw_only=True)

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abc.abstractmethod
    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples.

        Args:
            indices: positions in [0, len(self)).

        Returns:
            One `Example` per index: `image` (height, width, channels) uint8 and, where there are
            labels, `label`; or `labels` (labels,) bool where an image may have several.

        Raises:
            BadImageError: an image cannot be read, or has another shape than `image_shape`.
        """

    @abc.abstractmethod
    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """Return the labels of all examples, (N,) int32, without decoding images; None without."""

    def multi_hot(self) -> Bool[np.ndarray, "examples labels"] | None:
        """Return which labels each example has, without decoding images; None without several."""
        return None

    @abc.abstractmethod
    def digests(self) -> list[str]:
        """Return a SHA-256 of each example's stored bytes: it differs once the image changes."""

    def take(self, places: Sequence[int]) -> "Source":
        """Choose examples, ascending, so that nothing of the others is read for what is asked."""
        return Subset.of(self, places)

    def spaced(self, most: int) -> "Source":
        """Choose at most so many examples, see `evenly_spaced`."""
        return self if len(self) <= most else self.take(evenly_spaced(len(self), most).tolist())

    def file_ends(self) -> list[int]:
        """Return where each file of many examples ends, ascending; all are one by default."""
        return [len(self)]

    def picture(self, index: int, *, side: int) -> UInt8[np.ndarray, "height width channels"]:
        """Read one image for people to look at: the original, before it is brought to a size.

        Args:
            index: a position in [0, len(self)).
            side: pixels that either side has at most; the proportions stay, and a smaller image
                keeps its size.

        Returns:
            (height, width, channels) uint8, upright.

        Raises:
            BadImageError: the image cannot be read.
        """
        (example,) = self.read([index])
        return reduced(example["image"], side)

    def splits(self) -> list[str]:
        """Return the named split of each example, such as `train`."""
        return [self.split] * len(self)

    def details(self) -> list[Details]:
        """Return what is known of each example besides: when and where it was taken and the like.

        Returns:
            Filterable facts by name, as far as there are any; see `FolderSource.details`.
        """
        return [{} for _ in range(len(self))]

    def key(self, index: int) -> str:
        """Name the example at an index for people: a path, or data set, split and index."""
        return f"{self.name}/{self.split}/{index}"

    @property
    def skipped(self) -> int | None:
        """The number of bad images left out; None if they were not looked for."""
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource(Source):
    """Images held in memory.

    Attributes:
        images: (N, height, width, channels) uint8.
        classes: (N,) the label of each, or None.
    """

    images: UInt8[np.ndarray, "examples height width channels"]
    classes: Integer[np.ndarray, " examples"] | None

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any = None,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> "ArraySource":
        """Wrap arrays as a source.

        Args:
            images: (N, height, width, channels) uint8, or what `as_images` converts to it: integers
                in [0, 255] and floats in [0, 1].
            labels: (N,) integers in [0, classes), or what `as_labels` converts to it: lists,
                one-hot rows and floats that are whole numbers; None without labels.
            label_names: the classes; by default the numbers up to the highest label.
            name: what to call the source in messages.

        Raises:
            InputError: there is no image, another number of labels, or values that leave doubt.
        """
        pixels = as_images(images, name=f"images of {name}")
        if len(pixels) == 0:
            raise InputError(f"{name} holds 0 images; at least 1 is needed")
        numbers = names = None
        if labels is not None:
            numbers, names = as_labels(
                labels, len(pixels), label_names=label_names, name=f"labels of {name}"
            )
        return cls(name, "all", pixels.shape[1:], names, pixels, numbers)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples; see `Source.read`."""
        if self.classes is None:
            return [{"image": self.images[i]} for i in indices]
        return [{"image": self.images[i], "label": int(self.classes[i])} for i in indices]

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """Return the labels of all examples; see `Source.labels`."""
        return None if self.classes is None else self.classes.astype(np.int32)

    def digests(self) -> list[str]:
        """Return a SHA-256 of each example's pixels; see `Source.digests`."""
        return [sha256(image.tobytes()).hexdigest() for image in self.images]


@dataclasses.dataclass(frozen=True, eq=False)
class Subset(Source):
    """Some examples of another source, in an order of their own.

    Attributes:
        whole: the other source.
        chosen: positions in it.
        skipped: number of bad images left out; None if they were not looked for.
    """

    whole: Source
    chosen: tuple[int, ...]
    skipped: int | None = None

    @classmethod
    def of(cls, whole: Source, chosen: Sequence[int], *, skipped: int | None = None) -> "Subset":
        """Choose examples of a source by their positions in it."""
        names, shape = whole.label_names, whole.image_shape
        several = whole.multi_label_names
        return cls(
            whole.name,
            whole.split,
            shape,
            names,
            whole,
            tuple(chosen),
            skipped,
            multi_label_names=several,
        )

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples; see `Source.read`."""
        return self.whole.read([self.chosen[i] for i in indices])

    def picture(self, index: int, *, side: int) -> UInt8[np.ndarray, "height width channels"]:
        """Read an image for people; see `Source.picture`."""
        return self.whole.picture(self.chosen[index], side=side)

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """Return the labels of all examples; see `Source.labels`."""
        labels = self.whole.labels()
        return None if labels is None else labels[list(self.chosen)]

    def multi_hot(self) -> Bool[np.ndarray, "examples labels"] | None:
        """Return which labels each example has; see `Source.multi_hot`."""
        rows = self.whole.multi_hot()
        return None if rows is None else rows[list(self.chosen)]

    def digests(self) -> list[str]:
        """Return a SHA-256 of each example; see `Source.digests`."""
        digests = self.whole.digests()
        return [digests[i] for i in self.chosen]

    def splits(self) -> list[str]:
        """Return the split of each example; see `Source.splits`."""
        splits = self.whole.splits()
        return [splits[i] for i in self.chosen]

    def details(self) -> list[Details]:
        """Return what is known of each example besides; see `Source.details`."""
        details = self.whole.details()
        return [details[i] for i in self.chosen]

    def key(self, index: int) -> str:
        """Name the example at an index; see `Source.key`."""
        return self.whole.key(self.chosen[index])


@dataclasses.dataclass(frozen=True, eq=False)
class Readable(Subset):
    """Some examples of another source; those that cannot be read are black.

    Attributes:
        faults: what is wrong with each of these, by its place: what is known from the start is not
            read at all, and the rest is added as it is read.
    """

    faults: dict[int, str] = dataclasses.field(default_factory=dict)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples; see `Source.read`."""
        if not self.faults.keys().isdisjoint(indices):
            return [self._read(i) for i in indices]
        try:
            return super().read(indices)
        except BadImageError:
            return [self._read(i) for i in indices]

    def _read(self, index: int) -> Example:
        if index not in self.faults:
            try:
                return super().read([index])[0]
            except BadImageError as error:
                self.faults[index] = error.reason
        labels = np.zeros(len(self.multi_label_names or ()), bool)
        return {"image": np.zeros(self.image_shape, np.uint8), "label": 0, "labels": labels}


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenated(Source):
    """The examples of several sources, each keeping its own name for them.

    Attributes:
        parts: the sources, in order.
    """

    parts: tuple[Source, ...]

    @classmethod
    def of(cls, parts: Sequence[Source]) -> "Concatenated":
        """Join sources.

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
            if _names(part) != _names(first):
                raise InputError(f"{part.split} and {first.split} of {first.name} differ in labels")
        split = "+".join(part.split for part in parts)
        several = first.multi_label_names
        return cls(
            first.name,
            split,
            first.image_shape,
            first.label_names,
            tuple(parts),
            multi_label_names=several,
        )

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples; see `Source.read`."""
        places = [self._place(index) for index in indices]
        rows = [
            iter(part.read([i for its, i in places if its == number]))
            for number, part in enumerate(self.parts)
        ]
        return [next(rows[number]) for number, _ in places]

    def picture(self, index: int, *, side: int) -> UInt8[np.ndarray, "height width channels"]:
        """Read an image for people; see `Source.picture`."""
        number, place = self._place(index)
        return self.parts[number].picture(place, side=side)

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """Return the labels of all examples; see `Source.labels`."""
        labels = [part.labels() for part in self.parts]
        known = [rows for rows in labels if rows is not None]
        return np.concatenate(known) if len(known) == len(labels) else None

    def multi_hot(self) -> Bool[np.ndarray, "examples labels"] | None:
        """Return which labels each example has; see `Source.multi_hot`."""
        rows = [part.multi_hot() for part in self.parts]
        known = [part for part in rows if part is not None]
        return np.concatenate(known) if known else None

    def digests(self) -> list[str]:
        """Return a SHA-256 of each example; see `Source.digests`."""
        return [digest for part in self.parts for digest in part.digests()]

    def splits(self) -> list[str]:
        """Return the split of each example; see `Source.splits`."""
        return [split for part in self.parts for split in part.splits()]

    def details(self) -> list[Details]:
        """Return what is known of each example besides; see `Source.details`."""
        return [details for part in self.parts for details in part.details()]

    def key(self, index: int) -> str:
        """Name the example at an index; see `Source.key`."""
        number, place = self._place(index)
        return self.parts[number].key(place)

    def _place(self, index: int) -> tuple[int, int]:
        """Return the part that holds an example, and the example's place in it."""
        ends = list(itertools.accumulate(map(len, self.parts)))
        number = bisect.bisect_right(ends, index)
        return number, index - (ends[number] - len(self.parts[number]))


def reduced(
    image: UInt8[np.ndarray, "height width channels"], side: int
) -> UInt8[np.ndarray, "new_height new_width channels"]:
    """Scale pixels down until no side is longer than `side`; see `Source.picture`."""
    small = np.asarray(to_size(to_pil(image), side, WITHIN))
    return small.reshape(*small.shape[:2], image.shape[-1])


def _names(source: Source) -> tuple[tuple[str, ...] | None, ...]:
    return source.label_names, source.multi_label_names


def check_shape(image: np.ndarray, shape: tuple[int, int, int], name: str) -> None:
    """Refuse an image of another shape than its source's.

    Raises:
        BadImageError: the shapes differ.
    """
    if image.shape != shape:
        raise BadImageError(
            name,
            f"has shape {image.shape}; {shape} is needed; images of many sizes take image_size, in "
            "training too",
        )
