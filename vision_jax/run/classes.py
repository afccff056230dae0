"""Labels of other data in the numbers of a run's classes, matched by name."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from vision_jax.data.sources import Example, Source, Subset
from vision_jax.errors import InputError

_NAMED = 5  # classes in a message


@dataclasses.dataclass(frozen=True)
class ClassMatch:
    """A source as a run sees it.

    Attributes:
        source: the images whose class the run knows; their labels are the run's.
        missing: the run's classes that have no image.
        unknown: classes that the run does not know, each with the number of images left out.
    """

    source: Source
    missing: tuple[str, ...]
    unknown: dict[str, int]

    def notes(self) -> list[str]:
        """Return sentences that name the classes that are missing or unknown."""
        notes = []
        if self.unknown:
            named = [f"{name!r} ({count})" for name, count in self.unknown.items()]
            notes.append(
                f"{sum(self.unknown.values())} images are left out of recognition, of classes that "
                f"the run does not know: {_few(named)}"
            )
        if self.missing:
            own = len(self.source.label_names or ())
            notes.append(
                f"{len(self.missing)} of the run's {own} classes have no images: "
                f"{_few([repr(name) for name in self.missing])}"
            )
        return notes


def match_classes(
    source: Source, names: tuple[str, ...] | None, run: str, *, multi_label: bool = False
) -> ClassMatch:
    """Match the classes of a source with a run's by their names, whatever their order.

    Args:
        source: labelled images.
        names: the classes that the run tells apart.
        run: what to call the run in messages.
        multi_label: whether the run has learnt several labels an image; then all labels must be
            its own, in its order.

    Returns:
        The images of the classes that both have, and which classes only one of them has.

    Raises:
        InputError: they have no class in common, or either has no labels.
    """
    several = source.multi_label_names
    if multi_label and several == names:
        return ClassMatch(source, (), {})
    if multi_label or several is not None:
        learnt = f"{'several labels' if multi_label else 'one label'} an image: {_classes(names)}"
        found = "several labels" if several is not None else "one label"
        raise InputError(
            f"{source.name}, {source.split}, has {found} an image: "
            f"{_classes(several or source.label_names)}; {run} has learnt {learnt}"
        )
    if source.label_names == names and names is not None:
        return ClassMatch(source, (), {})
    labels = source.labels()
    numbers = _numbers(source.label_names, names)
    if labels is None or not (numbers[labels] >= 0).any():
        raise InputError(
            f"{source.name}, {source.split}, has {_classes(source.label_names)}; {run} has learnt "
            f"{_classes(names)}"
        )
    known = numbers[labels]
    counts, there = np.bincount(labels, minlength=len(numbers)), set(known.tolist())
    theirs, own = source.label_names or (), names or ()
    return ClassMatch(
        _Relabelled.to(source, np.flatnonzero(known >= 0).tolist(), own, numbers),
        tuple(name for number, name in enumerate(own) if number not in there),
        {
            name: int(count)
            for name, number, count in zip(theirs, numbers, counts, strict=True)
            if number < 0 and count
        },
    )


def have_common(a: Sequence[str] | None, b: Sequence[str] | None) -> bool:
    """Whether two lists of classes have a name in common."""
    return not set(a or ()).isdisjoint(b or ())


def _numbers(
    theirs: tuple[str, ...] | None, own: tuple[str, ...] | None
) -> Integer[np.ndarray, " classes"]:
    """Return a run's label for each label of other data; -1 where there is none."""
    places = {name: number for number, name in enumerate(own or ())}
    return np.array([places.get(name, -1) for name in theirs or ()], np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class _Relabelled(Subset):
    """Some examples of another source, under labels of a run's.

    Attributes:
        numbers: the run's label for each of the source's.
    """

    numbers: tuple[int, ...] = ()

    @classmethod
    def to(
        cls,
        whole: Source,
        chosen: Sequence[int],
        names: tuple[str, ...],
        numbers: Integer[np.ndarray, " classes"],
    ) -> "_Relabelled":
        shape, skipped = whole.image_shape, whole.skipped
        return cls(
            whole.name,
            whole.split,
            shape,
            names,
            whole,
            tuple(chosen),
            skipped,
            tuple(numbers.tolist()),
        )

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples; see `Source.read`."""
        return [
            {"image": example["image"], "label": self.numbers[example["label"]]}
            for example in super().read(indices)
        ]

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """Return the labels of all examples; see `Source.labels`."""
        labels = super().labels()
        return None if labels is None else np.array(self.numbers, np.int32)[labels]


def _classes(names: tuple[str, ...] | None) -> str:
    return "no labels" if names is None else f"the classes ({_few([repr(name) for name in names])})"


def _few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
