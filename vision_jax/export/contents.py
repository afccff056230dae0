"""What an export holds beside the encoder: how images are prepared, class names, and an index."""

import importlib.metadata
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vision_jax.data.resize import Resize
from vision_jax.errors import InputError
from vision_jax.gallery.origin import check_encoder, entries, views_of
from vision_jax.run.run import Run
from vision_jax.run.thresholds import read_thresholds
from vision_jax.search import CosineIndex

FORMAT = "vision_jax export"
VERSION = 1


class Rows(NamedTuple):
    """The rows of an index, lowest id first: of equals a stable sort finds the lower id first.

    Attributes:
        vectors: (N, D) of length 1, so that an inner product is the cosine.
        ids: (N,) in the index.
        metadata: of each, such as `key` and `label`.
    """

    vectors: Float[np.ndarray, "rows dim"]
    ids: Int[np.ndarray, " rows"]
    metadata: list[Any]


def rows_of(index: CosineIndex) -> Rows:
    """Return the rows of an index."""
    ids = np.sort(index.ids)
    vectors = np.ascontiguousarray(index.vectors(ids), np.float32)
    return Rows(vectors, ids, index.metadata(ids))


def describe(run: Run, index: CosineIndex | None) -> dict[str, Any]:
    """Return what a reader must know of an encoder and an index, as JSON holds it.

    Args:
        run: the run.
        index: an index that it made, or None.

    Raises:
        InputError: another network made the index, or it is not of images.
    """
    height, width, channels = run.info.image_shape
    resize, model = Resize(*run.config.data.resize), run.task
    classes = list(run.info.label_names or ()) if _classifies(run) else None
    several = run.info.multi_label and classes is not None
    name = getattr(run.config, "model", None)
    image = {"height": height, "width": width, "channels": channels, **resize._asdict()}
    network = getattr(model, "model", None) or getattr(model, "discriminator", None)
    image |= {part: list(getattr(network, part, None) or ()) or None for part in ("mean", "std")}
    return {
        "format": FORMAT,
        "version": VERSION,
        "written_by": {"vision_jax": importlib.metadata.version("vision_jax")},
        "encoder": {
            "identity": run.identity,
            "model": getattr(name, "name", run.config.name),
            "dim": run.embed(np.zeros((0, *run.info.image_shape), np.uint8)).shape[1],
        },
        "image": image,
        "classes": classes,
        "multi_label": several,
        "temperature": run.temperature if classes else None,
        "thresholds": read_thresholds(run).tolist() if several else None,
        "index": _describe_index(run, index) if index is not None else None,
    }


def _classifies(run: Run) -> bool:
    from vision_jax.tasks.base import Classifies

    return isinstance(run.task, Classifies)


def _describe_index(run: Run, index: CosineIndex) -> dict[str, Any]:
    entries(index)
    check_encoder(index, run)
    return {"count": len(index), "dim": index.dim, "views": views_of(index), "about": index.about}


def check_same_width(run: Run, index: CosineIndex) -> None:
    """Refuse an index of vectors of another width than an encoder's.

    Raises:
        InputError: it is one.
    """
    width = run.embed(np.zeros((0, *run.info.image_shape), np.uint8)).shape[1]
    if index.dim != width:
        raise InputError(f"the index holds vectors of {index.dim} numbers; {width} are needed")
