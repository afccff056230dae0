"""Split names as people write them, and tfds's slicing syntax."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from vision_jax.errors import InputError

KNOWN = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
"""The split of each name, in lower case."""
_ENDINGS = re.compile(r"[ _-]?(set|data|images|\d{4})$")


class Part(NamedTuple):
    """The examples of a named split from `start` up to `stop`."""

    split: str
    start: int
    stop: int


class Splits(NamedTuple):
    """The splits to train on, to choose the checkpoint by, and to report; in slicing syntax."""

    train: str
    validation: str
    test: str


def canonical(name: str) -> str | None:
    """Return the split that a name stands for: `train`, `validation`, `test` or None.

    Args:
        name: such as `Training`, `val`, `test_set` or `train2017`, in any case.
    """
    return KNOWN.get(_ENDINGS.sub("", name.lower()))


def parts_of(sizes: Mapping[str, int], split: str, name: str) -> list[Part]:
    """Resolve an expression over named splits.

    Args:
        sizes: the number of examples of each split.
        split: tfds's slicing syntax, such as `train[:90%]+test` or `all`.
        name: what to call the data in messages.

    Returns:
        The parts, in the order of the expression; together they hold at least one example.

    Raises:
        InputError: the expression is malformed, there is no such split, or it is empty.
    """
    import tensorflow_datasets as tfds

    infos = {
        key: tfds.core.SplitInfo(
            name=key, shard_lengths=[count], num_bytes=0, filename_template=None
        )
        for key, count in sizes.items()
    }
    parts = []
    try:
        for part in tfds.core.ReadInstruction.from_spec(split).to_absolute(infos):
            kept = range(sizes[part.splitname])[part.from_ : part.to]
            parts.append(Part(part.splitname, kept.start, kept.stop))
    except NotImplementedError as error:
        raise InputError(
            f"{name} has no slices of all, as {split!r} asks for; slices of its splits are needed: "
            f"{_listed(sizes)}"
        ) from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise _nothing(sizes, split, name) from error
    if not any(part.stop > part.start for part in parts):
        raise _nothing(sizes, split, name)
    return parts


def default_splits(sizes: Mapping[str, int], name: str) -> Splits:
    """Choose the splits to train on, to choose the checkpoint by, and to report.

    A split for validation is used if there is one; else a tenth of the training split is held out,
    and at least one example. Without a test split the validation split is reported, or another
    tenth of the training split.

    Args:
        sizes: the number of examples of each split.
        name: what to call the data in messages.

    Raises:
        InputError: there is no split to train on, or only one example and none to validate on.
    """
    exact = set(KNOWN.values())
    found = {canonical(split): split for split in sorted(sizes, key=lambda s: s in exact)}
    train, validation, test = (found.get(key) for key in ("train", "validation", "test"))
    if train is None:
        raise InputError(f"{name} has the splits {_listed(sizes)}; a split to train on is needed")
    if validation is not None:
        return Splits(train, validation, test or validation)
    count = sizes[train]
    if count < 2:
        raise InputError(
            f"{name} has {count} training image; 2 are needed, one of them to choose the "
            "checkpoint by, unless validation_split names others"
        )
    if test is None and count > 2:
        tenths = Splits(f"{train}[:80%]", f"{train}[80%:90%]", f"{train}[90%:]")
        single = Splits(f"{train}[:-2]", f"{train}[-2:-1]", f"{train}[-1:]")
    else:
        held_out = f"{train}[90%:]", f"{train}[-1:]"
        tenths, single = (
            Splits(f"{train}[:{cut}]", part, test or part)
            for cut, part in zip(("90%", "-1"), held_out, strict=True)
        )
    return tenths if all(_holds_any(sizes, split, name) for split in tenths) else single


def _holds_any(sizes: Mapping[str, int], split: str, name: str) -> bool:
    try:
        parts_of(sizes, split, name)
    except InputError:
        return False
    return True


def _nothing(sizes: Mapping[str, int], split: str, name: str) -> InputError:
    return InputError(f"{name} has nothing at {split!r}; its splits: {_listed(sizes)}")


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{split} ({count})" for split, count in sizes.items())
