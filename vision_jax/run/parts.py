"""How much each position of an image contributes to its embedding."""

import functools
import math
import weakref
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision_jax.data.loader import read_all, to_float
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.models.cut import Cut, Traced
from vision_jax.run.data import row_chunks
from vision_jax.run.run import Run
from vision_jax.tasks.state import TrainState

Method = Literal["average", "linear", "removal"]

_TOLERANCE = 1e-4
"""Relative error up to which two ways to compute an embedding count as equal."""
_NOTICEABLE = 1e-3
"""Relative change of an embedding from which it counts as depending on a map."""
_AT_ONCE = 16  # positions that are removed at a time


@runtime_checkable
class HasEndpoints(Protocol):
    """A task whose network returns its inner values."""

    def apply(self, state: TrainState, images: Array) -> tuple[Any, dict[str, Array]]:
        """Compute the output and the endpoints of images (B, H, W, C) in [0, 1]."""


class EmbeddingParts(NamedTuple):
    """What each position of a feature map adds to an embedding.

    Attributes:
        parts: (N, h, w, D); with `rest` they sum to the embedding.
        rest: (N, D) what belongs to no position, such as a bias.
        embedding: (N, D) as `run.embed` computes it.
        method: `average`: the embedding is the average of a map. `linear`: it is an affine function
            of one. `removal`: it is neither, and a part is what the embedding loses if the position
            is set to zero, which is an approximation.
        pooled: whether the embedding is exact and the same in whatever order the positions are, so
            that those of a part of the image make an embedding of it.
    """

    parts: Float[np.ndarray, "images h w dim"]
    rest: Float[np.ndarray, "images dim"]
    embedding: Float[np.ndarray, "images dim"]
    method: Method
    pooled: bool

    @property
    def exact(self) -> bool:
        """Whether the parts are the embedding's own terms, and no approximation."""
        return self.method != "removal"

    def whole(self) -> Float[np.ndarray, "images h w dim"]:
        """Return the parts with `rest` spread evenly, so that they sum to the embedding."""
        count = self.parts.shape[1] * self.parts.shape[2]
        return self.parts + self.rest[:, None, None] / count

    def within(self, weights: Float[np.ndarray, "h w"]) -> "EmbeddingParts":
        """Embed a part of each image: average the positions by weights.

        Args:
            weights: (h, w) of the positions, at least 0, with a sum above 0.

        Returns:
            The parts of the embeddings of the weighted positions.

        Raises:
            InputError: the embedding is no average of positions.
        """
        if not self.pooled:
            raise InputError(
                "the network's embedding is not the average of a feature map, so no part of an "
                "image has one; networks such as resnet18, wrn_16_4, densenet121 and "
                "efficientnet_lite0 can search by a part"
            )
        shares = (weights * (weights.size / weights.sum())).astype(np.float32)
        parts = self.parts * shares[..., None]
        return self._replace(parts=parts, embedding=parts.sum((1, 2)) + self.rest)


def embedding_parts(run: Run, images: Any) -> EmbeddingParts:
    """Divide embeddings among the positions of a feature map.

    Whether the embedding is the average of the endpoint `features`, or an affine function of a map,
    is found by computing both. Memory grows with the images: D numbers are held per position.

    Args:
        run: a run whose network has a feature map.
        images: a source, or (N, H, W, C) of the run's shape; see `data.arrays.as_pixels` for all
            that is taken.

    Returns:
        The parts.

    Raises:
        InputError: the images have another shape, or the embedding depends on no map.
    """
    pixels = run.as_rows(images)
    if isinstance(pixels, Source):
        pixels = read_all(pixels)["image"]
    network = _NETWORKS.get(run)
    if network is None:
        network = _NETWORKS[run] = _Network(run)
    return network.parts(pixels)


class _Removed(NamedTuple):
    """What removing positions does to one image's embedding.

    Attributes:
        parts: (h, w, D) what the embedding loses without each position.
        embedding: (D,) with all of them.
        nothing: (D,) the embedding without any.
        turned: (D,) the embedding with the positions in reverse order.
    """

    parts: Array
    embedding: Array
    nothing: Array
    turned: Array


class _Network:
    """A run's network on one device, compiled once."""

    def __init__(self, run: Run) -> None:
        if not isinstance(run.task, HasEndpoints):
            raise _no_map(str(run.workdir))
        # The run's copy lies on every device, where each would compute the same.
        self._state = jax.tree.map(lambda leaf: leaf.addressable_data(0), run.state)
        self._shape, self._workdir = run.info.image_shape, str(run.workdir)
        self._sizes = run.row_sizes
        self._apply = run.task.apply
        self._endpoints = jax.jit(self._map_and_embedding)
        self._removal: Callable[[Any, Array], _Removed] | None = None

    def parts(self, pixels: np.ndarray) -> EmbeddingParts:
        """Divide the embeddings of images; see `embedding_parts`."""
        if not len(pixels):
            made = self.parts(np.zeros((1, *self._shape), np.float32))
            return made._replace(
                parts=made.parts[:0], rest=made.rest[:0], embedding=made.embedding[:0]
            )
        if self._removal is None and (averaged := self._averaged(pixels)) is not None:
            return averaged
        if self._removal is None:
            self._removal = self._find_removal()
        removal, state = self._removal, self._state
        rows = [removal(state, _as_floats(image)) for image in jnp.asarray(pixels)]
        parts, embedding, nothing, turned = map(np.stack, zip(*rows, strict=True))
        rest = embedding - parts.sum((1, 2))
        method: Method = "linear" if _alike(rest, nothing, embedding) else "removal"
        pooled = method == "linear" and _alike(turned, embedding, embedding)
        return EmbeddingParts(parts, rest, embedding, method, pooled)

    def _averaged(self, pixels: np.ndarray) -> EmbeddingParts | None:
        """Divide the embeddings by `features`, if their averages they are."""
        maps, embeddings = [], []
        for part, count in row_chunks(pixels, self._sizes):
            features, embedding = (
                np.asarray(x)[:count] for x in self._endpoints(self._state, part)
            )
            if features.ndim != 4 or features.shape[-1] != embedding.shape[-1]:
                return None
            if not _alike(features.mean((1, 2)), embedding, embedding):
                return None
            maps.append(features / np.float32(features.shape[1] * features.shape[2]))
            embeddings.append(embedding)
        parts, embedding = np.concatenate(maps), np.concatenate(embeddings)
        return EmbeddingParts(parts, embedding - parts.sum((1, 2)), embedding, "average", True)

    def _map_and_embedding(self, state: Any, images: Array) -> tuple[Array, Array]:
        endpoints = self._apply(state, _as_floats(images))[1]
        embedding = endpoints["embedding"]
        return endpoints.get("features", embedding).astype(jnp.float32), embedding

    def _find_removal(self) -> Callable[[Any, Array], _Removed]:
        """Compile the removal of positions from the last map that the embedding depends on."""
        traced = Traced(self._apply, self._state, self._shape)
        probe = np.random.default_rng(0).random(self._shape, np.float32)
        for cut in traced.cuts():
            grid = _grid(cut, traced)
            if grid is None or math.prod(grid) == 1:
                continue
            removal = jax.jit(functools.partial(_remove, traced, cut, grid))
            _, embedding, nothing, _ = map(np.asarray, removal(self._state, probe))
            # A class token depends on the patches before the last block, and not on those after it.
            if np.abs(embedding - nothing).max() > _NOTICEABLE * np.abs(embedding).max():
                return removal
        raise _no_map(self._workdir)


def _remove(traced: Traced, cut: Cut, grid: tuple[int, int], state: Any, image: Array) -> _Removed:
    seen, rest = traced.split(cut, state, image)
    count = math.prod(grid)

    def kept(which: Array) -> Array:
        """Embed the image with the positions alone that are True; (h · w,)."""
        if seen.ndim == 4:
            return rest(jnp.where(which.reshape(1, *grid, 1), seen, jnp.zeros((), seen.dtype)))
        others = jnp.ones(seen.shape[1] - count, bool)
        which = jnp.concatenate([others, which])[None, :, None]
        return rest(jnp.where(which, seen, jnp.zeros((), seen.dtype)))

    embedding = rest(seen)
    places = jnp.arange(count)
    lost = jax.lax.map(
        lambda place: embedding - kept(places != place), places, batch_size=min(_AT_ONCE, count)
    )
    if seen.ndim == 4:
        turned = rest(seen[:, ::-1, ::-1])
    else:
        turned = rest(jnp.concatenate([seen[:, :-count], seen[:, -count:][:, ::-1]], 1))
    nothing = kept(jnp.zeros(count, bool))
    return _Removed(lost.reshape(*grid, -1), embedding, nothing, turned)


def _grid(cut: Cut, traced: Traced) -> tuple[int, int] | None:
    """Return the rows and columns of a cut's positions; those of tokens are the last ones."""
    shape = cut.shape if len(cut.shape) == 4 else traced.shape("features") or ()
    if len(shape) != 4 or (len(cut.shape) == 3 and shape[1] * shape[2] > cut.shape[1]):
        return None
    return shape[1], shape[2]


def _as_floats(pixels: Array) -> Array:
    return to_float(pixels) if pixels.dtype == jnp.uint8 else pixels


def _alike(first: np.ndarray, second: np.ndarray, scale: np.ndarray) -> bool:
    """Whether rows (N, D) are equal up to rounding, relative to the largest value of each scale."""
    largest = np.abs(scale).max(-1, initial=0)
    return bool((np.abs(first - second).max(-1, initial=0) <= _TOLERANCE * largest).all())


def _no_map(workdir: str) -> InputError:
    return InputError(
        f"the run in {workdir} has no feature map that its embedding depends on; a classifier or "
        "an encoder of the table of models is needed, such as resnet18, densenet121, "
        "efficientnet_lite0 or a vision transformer"
    )


_NETWORKS: weakref.WeakKeyDictionary[Run, _Network] = weakref.WeakKeyDictionary()
