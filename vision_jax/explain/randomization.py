"""Whether a method's maps depend on what the network has learnt.

Adebayo et al., "Sanity checks for saliency maps", 2018: layers are randomised one by one from the
top, and the maps compared with those of the trained network.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float
from scipy import ndimage, stats

from vision_jax.errors import InputError
from vision_jax.explain.checks import check_not_nan
from vision_jax.run.run import Run
from vision_jax.tasks.base import ModelTask

Maps = Float[np.ndarray, "images height width"]
Path = tuple[str, ...]

_WINDOW = 7
_C1, _C2 = 0.01**2, 0.03**2


class Randomised(NamedTuple):
    """How alike maps are once layers are randomised.

    Attributes:
        layers: (S,) the last layer randomised, and by that all above it.
        rank_correlation: (S, N) Spearman's, of each image's maps before and after; 0 where a map
            is constant.
        ssim: (S, N) their structural similarity.
    """

    layers: tuple[str, ...]
    rank_correlation: Float[np.ndarray, "stops images"]
    ssim: Float[np.ndarray, "stops images"]


def randomization_test(
    run: Run, maps_of: Callable[[Run], Maps], *, stops: int | None = None, seed: int = 0
) -> Randomised:
    """Randomise a network's layers one by one from the top, and compare its maps.

    Args:
        run: a run of one model.
        maps_of: from a run to its maps of always the same images and targets.
        stops: after how many layers, evenly spread, maps are compared, the last time after all of
            them; by default after each layer.
        seed: of the random weights, drawn as at the start of training.

    Returns:
        The likeness of the maps at each stop.

    Raises:
        InputError: the run is not of one model, `stops` is out of range, or a map holds NaN.
    """
    reference = maps_of(run)
    names, correlations, likeness = [], [], []
    for name, changed in randomised_runs(run, stops=stops, seed=seed):
        maps = maps_of(changed)
        names.append(name)
        correlations.append(rank_correlation(reference, maps))
        likeness.append(structural_similarity(reference, maps))
    return Randomised(tuple(names), np.stack(correlations), np.stack(likeness))


def randomised_runs(
    run: Run, *, stops: int | None = None, seed: int = 0
) -> Iterator[tuple[str, Run]]:
    """Yield copies of a run with more and more layers randomised, from the top.

    A layer is a kernel with its bias and what follows it up to the next kernel, such as batch norm.

    Args:
        run: a run of one model.
        stops: see `randomization_test`.
        seed: of the random weights.

    Yields:
        The name of the last layer randomised, and the run; the last has none of its weights left.

    Raises:
        InputError: see `randomization_test`.
    """
    task = run.task
    if not isinstance(task, ModelTask):
        raise InputError(f"{run.workdir} is no run of one model, such as a classifier")
    fresh, groups = _layers(task.model, run.info.image_shape, seed)
    count = len(groups) if stops is None else stops
    if not 1 <= count <= len(groups):
        raise InputError(f"stops is {stops}; it must be in [1, {len(groups)}], the layers")
    ends = {round((stop + 1) * len(groups) / count) for stop in range(count)}
    trained = jax.tree.map(lambda leaf: leaf.addressable_data(0), run.state)
    variables = flatten_dict(trained.average or trained.variables)
    for number, group in enumerate(reversed(groups), start=1):
        variables |= {path: fresh[path] for path in group}
        if number in ends:
            whole = unflatten_dict(variables)
            state = trained.replace(
                params=whole["params"],
                stats=whole.get("batch_stats", {}),
                average=whole if trained.average else {},
            )
            changed = dataclasses.replace(run, state=run.parallel.replicate(state))
            yield "/".join(group[0][1:-1]), changed


def rank_correlation(first: Maps, second: Maps) -> Float[np.ndarray, " images"]:
    """Compute Spearman's rank correlation of each pair of maps; 0 where one is constant.

    Args:
        first: (N, H, W).
        second: (N, H, W).

    Returns:
        (N,) in [-1, 1].

    Raises:
        InputError: a map holds NaN.
    """
    for maps in (first, second):
        check_not_nan(maps)
    ranked = [stats.rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    centred = [rows - rows.mean(1, keepdims=True) for rows in ranked]
    lengths = np.prod([np.linalg.norm(rows, axis=1) for rows in centred], 0)
    products = (centred[0] * centred[1]).sum(1)
    return np.divide(products, lengths, out=np.zeros(len(first)), where=lengths > 0)


def structural_similarity(first: Maps, second: Maps) -> Float[np.ndarray, " images"]:
    """Compute the structural similarity of each pair of maps, each scaled to [0, 1].

    Wang et al., "Image quality assessment", 2004; windows of 7x7 pixels or, on a smaller map, of
    the largest odd side.

    Args:
        first: (N, H, W).
        second: (N, H, W).

    Returns:
        (N,) in [-1, 1].
    """
    a, b = (_scaled(maps.astype(np.float64)) for maps in (first, second))
    side = min(_WINDOW, *(length - 1 + length % 2 for length in first.shape[1:]))
    count = side * side
    unbiased = count / max(1, count - 1)

    def mean(x: np.ndarray) -> np.ndarray:
        edge = side // 2
        averaged: np.ndarray = ndimage.uniform_filter(x, (0, side, side))
        return averaged[:, edge : x.shape[1] - edge, edge : x.shape[2] - edge]

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = unbiased * (mean(a * a) - mean_a**2), unbiased * (mean(b * b) - mean_b**2)
    covariance = unbiased * (mean(a * b) - mean_a * mean_b)
    alike = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    alike /= (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return alike.mean((1, 2))


def _scaled(maps: Maps) -> Maps:
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def _layers(
    model: Any, image_shape: tuple[int, ...], seed: int
) -> tuple[dict[Path, Any], list[list[Path]]]:
    """Draw a model's variables anew, and list its layers in the order they are called."""
    order: list[Path] = []

    def init(key: Any) -> Any:
        variables = model.init(key, jnp.zeros((1, *image_shape), jnp.float32))
        # Under jit the dictionaries lose the order in which they were filled.
        order.extend(flatten_dict(variables["params"]))
        return variables

    drawn = flatten_dict(jax.jit(init)(jax.random.key(np.uint32(seed))))
    statistics = [path for path in drawn if path[0] != "params"]
    groups: list[list[Path]] = []
    for path in order:
        if path[-1] == "kernel" or not groups:
            groups.append([])
        groups[-1].append(("params", *path))
    for group in groups:
        modules = {path[1:-1] for path in group}
        group.extend(path for path in statistics if path[1:-1] in modules)
    return drawn, groups
