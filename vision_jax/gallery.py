"""From a trained network to a search: embed a source, index it, look images up, measure it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vision_jax.data.loader import read_all
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.run import Run
from vision_jax.search import CosineIndex, cosine_top_k
from vision_jax.search.evaluation import evaluate_retrieval, knn_accuracy

NEIGHBOURS = 10
_MAX_QUERIES = 10_000


def build_index(run: Run, source: Source) -> CosineIndex:
    """Embeds every image of a source and indexes it by its position there.

    Args:
        run: the trained network.
        source: images in the run's shape.

    Returns:
        An index with, per image, the metadata `key` and, with labels, `label`.

    Raises:
        InputError: the images have another shape than the run's own.
    """
    vectors = run.embed(source)
    index = CosineIndex(
        vectors.shape[1],
        about={
            "workdir": str(run.workdir.absolute()),
            "step": run.step,
            "source": source.name,
            "split": source.split,
        },
    )
    names, labels = source.label_names, source.labels()
    metadata: list[dict[str, Any]] = [{"key": source.key(i)} for i in range(len(source))]
    if names is not None and labels is not None:
        for row, label in zip(metadata, labels.tolist(), strict=True):
            row["label"] = names[label]
    index.add(vectors, metadata=metadata)
    return index


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
