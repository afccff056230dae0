"""What a map explains: a score per image.

A target is written as one of the classes below, or in short: None for the predicted class, a
class's number or name, or one of these for each image.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vision_jax.checked import check_choice
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.explain.feature_maps import Score
from vision_jax.run.run import Run
from vision_jax.search.similarity import normalize
from vision_jax.tasks.base import Classifies

Label = int | np.integer | str | None
PREDICTED = -1
"""The label that stands for the predicted class."""
_SHOWN = 20


@dataclass(frozen=True)
class Class:
    """A class's logit.

    Attributes:
        label: number or name; None for the class that is predicted. One for all images, or one for
            each.
    """

    label: Label | Sequence[Label] | np.ndarray | jax.Array = None


@dataclass(frozen=True)
class Difference:
    """The logit of one class less that of another: why this and not that.

    Attributes:
        label: number or name of the first, likewise.
        other: that of the second.
    """

    label: Label | Sequence[Label] | np.ndarray | jax.Array
    other: Label | Sequence[Label] | np.ndarray | jax.Array


@dataclass(frozen=True)
class Cosine:
    """The cosine of the embedding with a reference's.

    Attributes:
        reference: one image for all, (H, W, C) or (1, H, W, C), or one for each, (N, H, W, C) or a
            source; or vectors, (D,) or (N, D).
    """

    reference: Any


@dataclass(frozen=True)
class Neuron:
    """An element of an endpoint.

    Attributes:
        endpoint: the endpoint's name, or `output`.
        index: place within an image's part of it; of a map (h, w, C) one number is a channel,
            averaged over the positions.
    """

    endpoint: str
    index: int | tuple[int, ...] = ()


Target = Class | Difference | Cosine | Neuron | Label | Sequence[Label] | np.ndarray | jax.Array


class Resolved(NamedTuple):
    """A target as a function of arrays.

    Attributes:
        rows: (N, ...) what the score of each image needs, such as its label.
        bind: `(output, endpoints, rows) -> rows`: rows with the predicted class filled in.
        score: `(rows) -> score`; see `Score`.
        name: what tells targets apart that compile differently.
    """

    rows: np.ndarray
    bind: Callable[[Any, dict[str, Array], Array], Array]
    score: Callable[[Array], Score]
    name: tuple[Any, ...]


def class_score(labels: Int[Array, " batch"]) -> Score:
    """Score images by the logits of their classes.

    Args:
        labels: (B,) in [0, classes).
    """

    def score(output: Any, endpoints: dict[str, Array]) -> Float[Array, " batch"]:
        del endpoints
        return jnp.take_along_axis(output, labels[:, None], 1)[:, 0]

    return score


def difference_score(labels: Int[Array, "batch 2"]) -> Score:
    """Score images by the difference of two logits.

    Args:
        labels: (B, 2) in [0, classes).
    """

    def score(output: Any, endpoints: dict[str, Array]) -> Float[Array, " batch"]:
        del endpoints
        pair = jnp.take_along_axis(output, labels, 1)
        return pair[:, 0] - pair[:, 1]

    return score


def cosine_score(references: Float[Array, "batch dim"]) -> Score:
    """Score images by the cosine of their embeddings with others.

    Args:
        references: (B, D), any scale; of zeros the cosine is 0.
    """
    units = normalize(references)

    def score(output: Any, endpoints: dict[str, Array]) -> Float[Array, " batch"]:
        del output
        vectors = endpoints["embedding"]
        norm = jnp.sqrt(jnp.maximum(jnp.sum(vectors * vectors, -1), 1e-30))
        return jnp.sum(vectors * units, -1) / norm

    return score


def neuron_score(endpoint: str, index: tuple[int, ...]) -> Score:
    """Score images by an element of an endpoint.

    Args:
        endpoint: its name, or `output`.
        index: place within an image's part, or a channel of a map.
    """

    def score(output: Any, endpoints: dict[str, Array]) -> Float[Array, " batch"]:
        values = output if endpoint == "output" else endpoints[endpoint]
        values = values.astype(jnp.float32)
        if values.ndim == 4 and len(index) == 1:
            return jnp.mean(values[..., index[0]], (1, 2))
        return values[(slice(None), *index)]

    return score


def resolve(run: Run, target: Target, count: int) -> Resolved:
    """Turn a target into a function of arrays.

    Args:
        run: whose classes, embedding and endpoints are meant.
        target: what to explain.
        count: number of images.

    Raises:
        InputError: the run has no such class, endpoint or place, another number of labels or
            references than images, or the run is no classifier and the target is a class.
    """
    if isinstance(target, Neuron):
        index = _checked_index(run, target)
        score = neuron_score(target.endpoint, index)
        rows = np.zeros((count, 0), np.float32)
        return Resolved(rows, _keep, lambda _: score, ("neuron", target.endpoint, index))
    if isinstance(target, Cosine):
        return Resolved(_references(run, target.reference, count), _keep, cosine_score, ("cosine",))
    if isinstance(target, Difference):
        pair = [_labels(run, label, count) for label in (target.label, target.other)]
        rows = np.stack(pair, 1)
        return Resolved(rows, _fill(rows), difference_score, ("difference", _predicts(rows)))
    label = target.label if isinstance(target, Class) else target
    rows = _labels(run, label, count)
    return Resolved(rows, _fill(rows), class_score, ("class", _predicts(rows)))


def _keep(output: Any, endpoints: dict[str, Array], rows: Array) -> Array:
    del output, endpoints
    return rows


def _predict(output: Any, endpoints: dict[str, Array], rows: Array) -> Array:
    """Fill in the predicted class."""
    del endpoints
    predicted = jnp.argmax(output, -1).astype(rows.dtype)
    predicted = predicted.reshape(-1, *(1,) * (rows.ndim - 1))
    return jnp.where(rows == PREDICTED, predicted, rows)


def _fill(rows: np.ndarray) -> Callable[[Any, dict[str, Array], Array], Array]:
    return _predict if _predicts(rows) else _keep


def _predicts(rows: np.ndarray) -> bool:
    return bool((rows == PREDICTED).any())


def _labels(run: Run, label: Any, count: int) -> Int[np.ndarray, " images"]:
    """Return the number of each image's class, `PREDICTED` where it is the predicted one."""
    if not isinstance(run.task, Classifies):
        raise InputError(
            f"target is {label!r}, and the run in {run.workdir} is no classifier; a Cosine with "
            "another image or a Neuron is needed"
        )
    names = run.info.label_names or ()
    if isinstance(label, np.ndarray | jax.Array):
        label = np.asarray(label).tolist()
    if label is None or isinstance(label, str | int | np.integer):
        return np.full(count, _label(label, names), np.int32)
    if len(label) != count:
        raise InputError(
            f"target has {len(label)} classes; one, or one for each of {count} images, is needed"
        )
    return np.array([_label(each, names) for each in label], np.int32)


def _label(label: Any, names: Sequence[str]) -> int:
    if label is None:
        return PREDICTED
    if isinstance(label, str) and label in names:
        return names.index(label)
    is_number = isinstance(label, int | np.integer) and not isinstance(label, bool)
    if is_number and 0 <= label < len(names):
        return int(label)
    near = difflib.get_close_matches(label, names, n=1) if isinstance(label, str) else []
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    raise InputError(
        f"target is {label!r}; {hint}a class's number in [0, {len(names)}) or its name is needed, "
        f"one of {shown}"
    )


def _references(run: Run, reference: Any, count: int) -> Float[np.ndarray, "images dim"]:
    """Return the embedding that each image is compared with."""
    if isinstance(reference, Source):
        vectors = run.embed(reference)
    else:
        vectors = np.atleast_2d(np.asarray(reference))
        if vectors.ndim > 2:
            vectors = run.embed(vectors[None] if vectors.ndim == 3 else vectors)
    if len(vectors) not in (1, count):
        raise InputError(
            f"target has {len(vectors)} references; one, or one for each of {count} images, is "
            "needed"
        )
    width = run.embed([]).shape[1]
    if vectors.shape[1] != width:
        raise InputError(
            f"target has references of {vectors.shape[1]} values; the run embeds to {width}"
        )
    return np.broadcast_to(vectors.astype(np.float32), (count, width))


def _checked_index(run: Run, target: Neuron) -> tuple[int, ...]:
    """Check that an endpoint has an element."""
    image = jax.ShapeDtypeStruct((1, *run.info.image_shape), jnp.float32)
    output, endpoints = jax.eval_shape(run.task.apply, run.state, image)
    shapes = {name: values.shape[1:] for name, values in (endpoints | {"output": output}).items()}
    shape = shapes[check_choice(target.endpoint, tuple(shapes), "target.endpoint")]
    index = target.index if isinstance(target.index, tuple) else (target.index,)
    sizes = shape[-1:] if len(shape) == 3 and len(index) == 1 else shape
    if len(index) != len(sizes) or not all(0 <= i < n for i, n in zip(index, sizes, strict=True)):
        raise InputError(f"target.index is {target.index}; {target.endpoint} is of shape {shape}")
    return index
