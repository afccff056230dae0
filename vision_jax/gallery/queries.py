"""What is looked up in an index: image files, indexed images, or examples of what to find."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vision_jax.data.boxes import BoxLike
from vision_jax.data.decode import printable
from vision_jax.errors import InputError
from vision_jax.gallery.lookup import find_keys, id_of, ids_by_key
from vision_jax.gallery.origin import check_encoder, check_single_view, views_of
from vision_jax.gallery.regions import embed_region
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.search.examples import WEIGHT, combine_examples


class Queries(NamedTuple):
    """Vectors to search for.

    Attributes:
        names: What people know each of the Q by.
        vectors: (Q, D).
        leave_out: For each, the ids of indexed images that it must not find, such as itself.
        shown: What to show of each: an image file, or the metadata of an indexed image.
    """

    names: list[str]
    vectors: Float[np.ndarray, "queries dim"]
    leave_out: list[list[int]]
    shown: list[str | Path | dict[str, Any]]


def image_queries(index: CosineIndex, run: Run, paths: Sequence[str | Path]) -> Queries:
    """Embed image files to look them up.

    Args:
        index: The index to search.
        run: The run that made its vectors.
        paths: The image files.

    Raises:
        InputError: If another network made the index, or an image is unreadable.
    """
    check_encoder(index, run)
    vectors = _embed(index, run, paths)
    return Queries([printable(path) for path in paths], vectors, [[] for _ in paths], [*paths])


def region_query(index: CosineIndex, run: Run, path: str | Path, box: BoxLike) -> Queries:
    """Look up what is in a box of an image file; see `search_region`.

    Raises:
        InputError: As for `search_region`.
    """
    check_encoder(index, run)
    check_single_view(index, "a box")
    return Queries([printable(path)], embed_region(run, path, box)[None], [[]], [path])


def key_queries(index: CosineIndex, keys: Sequence[str]) -> Queries:
    """Look indexed images up by their keys; each leaves itself out.

    Raises:
        InputError: If no image has such a key.
    """
    ids = find_keys(index, keys)
    itself = [[item] for item in ids.tolist()]
    return Queries(list(keys), index.vectors(ids), itself, index.metadata(ids))


def has_keys(index: CosineIndex, examples: Sequence[str | Path]) -> bool:
    """Say whether all examples are indexed images, which need not be embedded."""
    there = ids_by_key(index)
    return all(id_of(there, example) is not None for example in examples)


def example_query(
    index: CosineIndex,
    run: Run | None,
    like: Sequence[str | Path],
    unlike: Sequence[str | Path] = (),
    *,
    weight: float = WEIGHT,
) -> Queries:
    """Make one query of examples: the mean of some images less the mean of others.

    See `search.combine_examples` for the formula. Indexed images among the examples are left out of
    what is found.

    Args:
        index: The index to search.
        run: The run that made its vectors; None is enough where all examples are indexed.
        like: What to find more of, at least one: image files, or keys of indexed images.
        unlike: What to keep away from, likewise.
        weight: How much the unlikes count, at least 0.

    Raises:
        InputError: If there is no like, an example is neither indexed nor a readable image, likes
            and unlikes cancel out, or another network made the index.
    """
    if not like:
        raise InputError("there are 0 examples in like; at least 1 is needed")
    examples = [*like, *unlike]
    there = ids_by_key(index)
    ids = [id_of(there, example) for example in examples]
    files = [example for example, item in zip(examples, ids, strict=True) if item is None]
    for file in files:
        if not Path(file).exists():
            raise InputError(
                f"{str(file)!r} is neither an image file nor the key of an indexed image, such as "
                f"{min(there)!r}"
            )
    if files and run is None:
        raise InputError(f"{str(files[0])!r} is not indexed; run is None, and a run is needed")
    vectors = np.empty((len(examples), index.dim), np.float32)
    held = [item for item in ids if item is not None]
    indexed = np.array([item is not None for item in ids])
    vectors[indexed] = index.vectors(np.array(held, np.int64))
    if files and run is not None:
        vectors[~indexed] = image_queries(index, run, files).vectors
    query = combine_examples(vectors[: len(like)], vectors[len(like) :], weight=weight)
    names = [" and ".join(map(printable, part)) for part in (like, unlike)]
    name = f"like {names[0]}" + (f", unlike {names[1]}" if unlike else "")
    first = like[0] if ids[0] is None else index.metadata(ids[0])[0]
    return Queries([name], query[None], [held], [first])


def _embed(
    index: CosineIndex, run: Run, paths: Sequence[str | Path]
) -> Float[np.ndarray, "images dim"]:
    if not paths:
        return np.zeros((0, index.dim), np.float32)
    return run.embed(run.read_images(paths), views=views_of(index))
