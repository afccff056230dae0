"""From a trained network to a search: embed a source, index it, look images up, measure it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vision_jax.data.loader import read_all
from vision_jax.data.sources import Source, Subset
from vision_jax.errors import InputError
from vision_jax.run import Run
from vision_jax.search import CosineIndex, cosine_top_k, near_duplicates
from vision_jax.search.evaluation import evaluate_retrieval, knn_accuracy

NEIGHBOURS = 10
_MAX_QUERIES = 10_000


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
    lost = np.flatnonzero(~vectors.any(1) | ~np.isfinite(vectors).all(1))
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


def search_images(
    index: CosineIndex, run: Run, paths: Sequence[str | Path], k: int
) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
    """Looks image files up in an index.

    Args:
        index: what to search.
        run: the network that made its vectors.
        paths: the images to look up.
        k: how many neighbours, at most the size of the index.

    Returns:
        `(scores, ids)`, both (Q, k), best first.

    Raises:
        InputError: k is out of range, or an image is unreadable.
    """
    if not 1 <= k <= len(index):
        raise InputError(f"k is {k}; it must be in [1, {len(index)}], the size of the index")
    return index.search(run.embed(run.read_images(paths)), k)


def measure_retrieval(run: Run, gallery: Source, queries: Source) -> dict[str, dict[str, float]]:
    """Measures search by the network's embedding, beside search by raw pixels.

    Args:
        run: the trained network.
        gallery: labelled images, the training split, for the kNN accuracy.
        queries: labelled images, the test split; the first 10,000 are used.

    Returns:
        For `embedding` and `pixels`: `knn_accuracy@10` of the queries in the gallery, and
        `precision@10` and `map@r` (Musgrave et al., 2020) of the queries among themselves, each
        leaving itself out.
    """
    known, asked = read_all(gallery), read_all(queries, limit=_MAX_QUERIES)
    figures = {}
    for name in ("embedding", "pixels"):
        rows, looked_up = (
            run.embed(part["image"]) if name == "embedding" else _pixels(part["image"])
            for part in (known, asked)
        )
        _, ids = cosine_top_k(jnp.asarray(looked_up), jnp.asarray(rows), NEIGHBOURS)
        among = evaluate_retrieval(looked_up, asked["label"], ks=(NEIGHBOURS,))
        figures[name] = {
            f"knn_accuracy@{NEIGHBOURS}": knn_accuracy(
                known["label"][np.asarray(ids)], asked["label"]
            ),
            f"precision@{NEIGHBOURS}": among[f"precision@{NEIGHBOURS}"],
            "map@r": among["map@r"],
        }
    return figures


def _pixels(images: np.ndarray) -> Float[np.ndarray, "images pixels"]:
    return images.reshape(len(images), -1).astype(np.float32) / 255
