"""Class-disjoint splits: a network learns some classes and is measured on the others."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from vision_jax.errors import InputError

_TRIES = 100


class ClassSplit(NamedTuple):
    """Which classes a network is trained on, and on which others it is measured.

    Attributes:
        seen: labels of the classes to train on, rising.
        unseen: those of all others, rising.
    """

    seen: tuple[int, ...]
    unseen: tuple[int, ...]


def class_splits(classes: int, unseen: int, count: int, *, seed: int = 0) -> list[ClassSplit]:
    """Draw different splits of the classes, each class unseen about equally often.

    Figures on unseen classes depend on which these are: report several splits (Musgrave et al., "A
    metric learning reality check", 2020, section 3.1).

    Args:
        classes: how many there are.
        unseen: how many to leave out in each split; at least 2, so that there is something to tell
            apart, and less than `classes` by as many.
        count: how many splits.
        seed: of the draws.

    Raises:
        InputError: a number is out of range, or there are fewer different splits.

    >>> from vision_jax.evaluation.class_splits import class_splits
    >>> first, second = class_splits(10, 3, 2)
    >>> sorted(first.seen + first.unseen) == list(range(10))
    True
    >>> set(first.unseen) & set(second.unseen)
    set()
    """
    if not 2 <= unseen <= classes - 2:
        raise InputError(
            f"unseen is {unseen}; it must be in [2, {classes - 2}] with {classes} classes"
        )
    if not 1 <= count <= math.comb(classes, unseen):
        raise InputError(
            f"count is {count}; it must be in [1, {math.comb(classes, unseen)}], the different "
            f"choices of {unseen} among {classes} classes"
        )
    random, times = np.random.default_rng(seed), np.zeros(classes, np.int64)
    drawn = list[tuple[int, ...]]()
    while len(drawn) < count:
        for tried in range(_TRIES + 1):
            # The classes that were drawn least so far; any, where only known choices are left.
            rank = times if tried < _TRIES else np.zeros(classes)
            order = np.lexsort((random.random(classes), rank))
            chosen = tuple(sorted(order[:unseen].tolist()))
            if chosen not in drawn:
                drawn.append(chosen)
                times[[*chosen]] += 1
                break
    every = set(range(classes))
    return [ClassSplit(tuple(sorted(every - set(chosen))), chosen) for chosen in drawn]


def rows_of(
    labels: Integer[np.ndarray, " images"], classes: Sequence[int]
) -> tuple[Int[np.ndarray, " chosen"], Int[np.ndarray, " chosen"]]:
    """Find the images of some classes.

    Args:
        labels: (N,) the classes of all images; those below 0, which mean unknown, are left out.
        classes: which to choose.

    Returns:
        (rows, places): the images' rows, rising, and for each the place of its class in `classes`.

    Raises:
        InputError: a class has no image or is named twice.
    """
    table = np.full(max([int(labels.max(initial=0)), *classes]) + 1, -1, np.int64)
    for place, label in enumerate(classes):
        if label < 0 or table[label] >= 0 or not (labels == label).any():
            raise InputError(
                f"classes is {[*classes]}; it must name classes that have images, each once, which "
                f"{label} does not"
            )
        table[label] = place
    rows = np.flatnonzero((labels >= 0) & (table[labels] >= 0))
    return rows, table[labels[rows]]
