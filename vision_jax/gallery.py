"""From a trained network to a search: embed a source, index it, look images up, measure it."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from vision_jax.data.loader import read_parts
from vision_jax.data.sources import Source, Subset
from vision_jax.errors import InputError
from vision_jax.run import Run
from vision_jax.search import CosineIndex, cosine_top_k, near_duplicates
from vision_jax.search.evaluation import evaluate_retrieval, knn_accuracy
from vision_jax.search.index import without_direction

Found = tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]

NEIGHBOURS = 10
_MAX_QUERIES = 10_000
_MAX_PIXELS = 4096
_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class IndexChange:
    """What `update_index` did.

    Attributes:
        added: images that were embedded, since they are new or have changed.
        removed: images that are gone or have changed.
        kept: images that are as they were.
    """

    added: int
    removed: int
    kept: int


def build_index(run: Run, source: Source) -> CosineIndex:
    """Embeds every image of a source and indexes it, the ids counting from 0 in its order.

    Args:
        run: the trained network.
        source: images in the run's shape.

    Returns:
        An index with, per image, the metadata `key`, `digest`, `split` and, with labels, `label`.

    Raises:
        InputError: the images have another shape than the run's own, or no direction.
    """
    vectors = run.embed(source)
    index = CosineIndex(vectors.shape[1], about=_about(run, source))
    _add(index, vectors, _describe(source))
    return index


def update_index(index: CosineIndex, run: Run, source: Source) -> IndexChange:
    """Brings an index up to date with its source, embedding only what is new or has changed.

    Args:
        index: what `build_index` made of an earlier state of the source; changed in place.
        run: the network and checkpoint that made it.
        source: the images as they are now.

    Returns:
        How many images were added, removed and kept.

    Raises:
        InputError: the index is of another network or source.
    """
    if index.about != _about(run, source):
        raise InputError(f"the index is of {index.about}; needed: {_about(run, source)}")
    rows = _describe(source)
    there = {(row["key"], row["digest"]): i for i, row in _entries(index)}
    fresh = [i for i, row in enumerate(rows) if (row["key"], row["digest"]) not in there]
    wanted = {(row["key"], row["digest"]) for row in rows}
    gone = [i for entry, i in there.items() if entry not in wanted]
    # Embedded before anything is removed: a file that cannot be read leaves the index whole.
    vectors = run.embed(Subset.of(source, fresh)) if fresh else None
    index.remove(gone)
    if vectors is not None:
        _add(index, vectors, [rows[i] for i in fresh])
    return IndexChange(len(fresh), len(gone), len(rows) - len(fresh))


def write_index(run: Run, source: Source, path: Path) -> IndexChange:
    """Writes the index of a source to a file, starting from what the file already holds.

    Args:
        run: the trained network.
        source: images in the run's shape.
        path: the file; replaced only once the new one is whole. An index of another network or
            source is built anew.

    Returns:
        How many images were added, removed and kept.

    Raises:
        InputError: the file is no index, or the images cannot be embedded.
    """
    index = load_index(path) if path.exists() else None
    if index is not None and index.about == _about(run, source):
        change = update_index(index, run, source)
    else:
        index = build_index(run, source)
        change = IndexChange(len(index), 0, 0)
    index.save(path)
    return change


def find_duplicates(
    index: CosineIndex, threshold: float
) -> list[tuple[bool, list[dict[str, Any]]]]:
    """Lists groups of indexed images that are nearly the same to the network.

    Args:
        index: what to look through.
        threshold: cosine from which two images count as nearly the same, in (0, 1].

    Returns:
        `(leaks, metadata)` of each group: those that span splits first, then by size. The split of
        an image is its `split` in the metadata.

    Raises:
        InputError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be in (0, 1]")
    rows = [row for _, row in _entries(index)]
    _, splits = np.unique([row["split"] for row in rows], return_inverse=True)
    groups = near_duplicates(index.vectors(index.ids), threshold, splits=splits)
    return [(group.leaks, [rows[i] for i in group.rows]) for group in groups]


def _about(run: Run, source: Source) -> dict[str, Any]:
    return {
        "workdir": str(run.workdir.absolute()),
        "step": run.step,
        "source": source.name,
        "split": source.split,
    }


def _describe(source: Source) -> list[dict[str, Any]]:
    """The metadata of each image of a source."""
    names, labels = source.label_names, source.labels()
    rows: list[dict[str, Any]] = [
        {"key": source.key(i), "digest": digest, "split": split}
        for i, (digest, split) in enumerate(zip(source.digests(), source.splits(), strict=True))
    ]
    if names is not None and labels is not None:
        for row, label in zip(rows, labels.tolist(), strict=True):
            row["label"] = names[label]
    return rows


def _entries(index: CosineIndex) -> list[tuple[int, dict[str, Any]]]:
    return list(zip(index.ids.tolist(), index.metadata(index.ids), strict=True))


def _add(index: CosineIndex, vectors: np.ndarray, rows: list[dict[str, Any]]) -> None:
    lost = without_direction(vectors)
    if len(lost):
        raise InputError(
            f"{rows[lost[0]]['key']} is embedded as zeros or not finite, and so are "
            f"{len(lost) - 1} more; a vector with a direction is needed"
        )
    index.add(vectors, metadata=rows)


def load_index(path: str | Path) -> CosineIndex:
    """Loads an index from a file.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    try:
        return CosineIndex.load(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; an index file is needed") from None
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error


def select_ids(index: CosineIndex, conditions: Sequence[str]) -> Int[np.ndarray, " items"]:
    """The ids of the indexed images whose metadata meet conditions.

    Args:
        index: whose metadata.
        conditions: `FIELD=VALUE` each, such as `label=shirt` or `split=test`. Of the same field one
            must hold, of different fields all.

    Returns:
        The ids, in the index's order; all of them without conditions.

    Raises:
        InputError: a condition is not of that form, names an unknown field, or none fits.
    """
    wanted: dict[str, set[str]] = {}
    for condition in conditions:
        field, equals, value = condition.partition("=")
        if not equals:
            raise InputError(f"a condition is {condition!r}; it must be FIELD=VALUE")
        wanted.setdefault(field, set()).add(value)
    entries = _entries(index)
    fields = {field for _, row in entries for field in row}
    if unknown := wanted.keys() - fields:
        raise InputError(f"images have no {min(unknown)!r}; they have {', '.join(sorted(fields))}")
    met = [i for i, row in entries if all(str(row.get(f)) in v for f, v in wanted.items())]
    if not met:
        raise InputError(f"no indexed image meets {' '.join(conditions)}")
    return np.array(met)


def find_keys(index: CosineIndex, keys: Sequence[str]) -> Int[np.ndarray, " images"]:
    """The ids of indexed images by their keys, as a search prints them.

    Raises:
        InputError: no image has such a key.
    """
    there = {row["key"]: i for i, row in _entries(index)}
    if unknown := [key for key in keys if key not in there]:
        raise InputError(f"{unknown[0]!r} is not indexed; a key such as {min(there)!r} is needed")
    return np.array([there[key] for key in keys])


def search_images(
    index: CosineIndex,
    run: Run,
    paths: Sequence[str | Path],
    k: int,
    *,
    where: Int[np.ndarray, " items"] | None = None,
) -> Found:
    """Looks image files up in an index.

    Args:
        index: what to search.
        run: the network that made its vectors.
        paths: the images to look up.
        k: how many neighbours, at most as many as may be found.
        where: the ids that may be found; all by default.

    Returns:
        `(scores, ids)`, both (Q, k), best first.

    Raises:
        InputError: k is out of range, or an image is unreadable.
    """
    _check_k(k, len(index) if where is None else len(where))
    return index.search(run.embed(run.read_images(paths)), k, where)


def search_indexed(
    index: CosineIndex,
    ids: Int[np.ndarray, " queries"],
    k: int,
    *,
    where: Int[np.ndarray, " items"] | None = None,
) -> Found:
    """Looks indexed images up by their ids, each leaving itself out.

    Args:
        index: what to search.
        ids: the images to look up.
        k: how many neighbours, fewer than may be found.
        where: the ids that may be found; all by default.

    Returns:
        As `search_images`.

    Raises:
        InputError: k is out of range.
    """
    _check_k(k, len(index) - 1 if where is None else len(where) - int(np.isin(ids, where).any()))
    return index.search_by_id(ids, k, where)


def _check_k(k: int, most: int) -> None:
    if not 1 <= k <= most:
        raise InputError(f"k is {k}; it must be in [1, {most}], as many as may be found")


def read_indexed(
    index: CosineIndex, run: Run, keys: Sequence[str]
) -> UInt8[np.ndarray, "images height width channels"]:
    """Reads indexed images again from where they were.

    Args:
        index: what they are indexed in.
        run: the network that made it.
        keys: their keys.

    Returns:
        (N, H, W, C) uint8 in the run's shape.

    Raises:
        InputError: an image is no longer there.
    """
    about = index.about
    source = run.open_images(about["source"], about["split"], bad_files="later")
    places = {source.key(i): i for i in range(len(source))}
    if gone := [key for key in keys if key not in places]:
        raise InputError(f"{gone[0]} is indexed but no longer there; index the images again")
    return np.stack([example["image"] for example in source.read([places[k] for k in keys])])


def measure_retrieval(run: Run, gallery: Source, queries: Source) -> dict[str, dict[str, float]]:
    """Measures search by the network's embedding, beside search by raw pixels.

    Of each image a vector is kept; pixels are read part by part, those of the queries apart.

    Args:
        run: the trained network.
        gallery: labelled images, the training split, for the kNN accuracy.
        queries: labelled images, the test split; the first 10,000 are used.

    Returns:
        For `embedding` and, of images of at most 4,096 numbers, `pixels`: `knn_accuracy@10` of the
        queries in the gallery, and `precision@10` and `map@r` (Musgrave et al., 2020) of the
        queries among themselves, each leaving itself out.
    """
    queries = Subset.of(queries, range(min(len(queries), _MAX_QUERIES)))
    known, asked = gallery.labels(), queries.labels()
    if known is None or asked is None:
        raise InputError(f"{gallery.name} has no labels; a labelled data set is needed")
    vectors = run.embed(queries)
    found = {"embedding": (vectors, _nearest(vectors, [run.embed(gallery)]))}
    if np.prod(queries.image_shape) <= _MAX_PIXELS:
        vectors = np.concatenate([*_pixels(queries)])
        found["pixels"] = vectors, _nearest(vectors, _pixels(gallery))
    figures = {}
    for name, (vectors, ids) in found.items():
        among = evaluate_retrieval(vectors, asked, ks=(NEIGHBOURS,))
        figures[name] = {
            f"knn_accuracy@{NEIGHBOURS}": knn_accuracy(np.where(ids < 0, -1, known[ids]), asked),
            f"precision@{NEIGHBOURS}": among[f"precision@{NEIGHBOURS}"],
            "map@r": among["map@r"],
        }
    return figures


def _nearest(
    queries: np.ndarray, parts: Iterable[np.ndarray]
) -> Int[np.ndarray, "queries neighbours"]:
    """The places of each query's nearest rows, best first, among those of all parts."""
    scores = np.full((len(queries), NEIGHBOURS), -np.inf, np.float32)
    ids = np.full(scores.shape, -1, np.int64)
    asked, first = jnp.asarray(queries), 0
    for rows in parts:
        near, places = map(np.asarray, cosine_top_k(asked, jnp.asarray(rows), NEIGHBOURS))
        both = np.hstack([scores, near])
        # Of equally near rows the first stays first.
        best = np.argsort(-both, axis=1, kind="stable")[:, :NEIGHBOURS]
        scores = np.take_along_axis(both, best, 1)
        fresh = np.where(places < 0, -1, places + first)
        ids = np.take_along_axis(np.hstack([ids, fresh]), best, 1)
        first += len(rows)
    return ids


def _pixels(source: Source) -> Iterator[Float[np.ndarray, "images pixels"]]:
    for rows in read_parts(source, _ROWS):
        yield rows["image"].reshape(len(rows["image"]), -1).astype(np.float32) / 255
