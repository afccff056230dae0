"""Plans of perturbation carried out on a run's devices, part by part."""

from collections.abc import Iterator
from itertools import chain, groupby, islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision_jax.data.loader import padded, to_float
from vision_jax.data.sources import Source
from vision_jax.explain.perturbation import Plan, weighted_scores
from vision_jax.explain.targets import Resolved
from vision_jax.run.data import row_chunks
from vision_jax.run.mapping import map_parts
from vision_jax.run.run import Run

Part = tuple[tuple[np.ndarray, ...], int]


def follow(
    run: Run,
    rows: np.ndarray | Source,
    target: Resolved,
    plan: Plan,
    seed: int,
    name: tuple[Any, ...],
    baselines: Float[np.ndarray, "images height width channels"] | None = None,
) -> Float[np.ndarray, "images height width"]:
    """Carry out a plan for each image, with memory that grows with the maps alone.

    Args:
        run: what sees the images.
        rows: images, see `Run.as_rows`.
        target: what to explain.
        plan: what to evaluate of each image.
        seed: seed of what is drawn.
        name: what tells compiled functions apart.
        baselines: (N, H, W, C) in place of the plan's baseline.

    Returns:
        (N, H, W) float32.
    """
    height, width, _ = run.info.image_shape
    maps = np.zeros((len(rows), height, width), np.float32)
    if not len(rows):
        return maps
    wanted, own = _at_images(run, rows, target)
    beside = [wanted] if baselines is None else [wanted, baselines]
    devices = run.parallel.count
    # A part of the evaluations for each device.
    count = run.row_sizes[0] // devices
    starts = range(0, plan.evaluations, count)
    compute = run.compiled(("plan", *name, target.name), _of_part(run, target, plan, count))

    def sums(part: Part) -> tuple[list[tuple[int, np.ndarray]], int]:
        units, real = part
        numbers = units[1][:real].tolist()
        return list(zip(numbers, compute(run.state, units), strict=False)), real * count

    parts = map_parts(
        sums,
        _units(rows, beside, starts, seed, devices),
        len(rows) * len(starts) * count,
        lanes=run.parallel.lanes,
        verb=f"{name[0]} maps",
        unit="mask",
    )
    for number, group in groupby(chain.from_iterable(parts), lambda pair: pair[0]):
        total = sum(np.asarray(value, np.float64) for _, value in group)
        score, weight = jnp.asarray(total, jnp.float32)
        maps[number] = plan.finish(score, weight, jnp.asarray(own[number]))
    return maps


def frozen(options: dict[str, Any]) -> list[Any]:
    """Turn options into what can be compared."""
    return [
        (name, np.asarray(value).tobytes() if hasattr(value, "shape") else repr(value))
        for name, value in sorted(options.items())
    ]


def _at_images(
    run: Run, rows: np.ndarray | Source, target: Resolved
) -> tuple[np.ndarray, np.ndarray]:
    """Fix each image's target, such as the predicted class, and score the image."""
    apply = run.task.apply

    def compute(state: Any, pixels: Array, wanted: Array) -> Array:
        output, endpoints = apply(state, pixels)
        bound = target.bind(output, endpoints, wanted)
        scores = target.score(bound)(output, endpoints).astype(jnp.float32)
        flat = bound.reshape(len(bound), -1).astype(jnp.float32)
        return jnp.concatenate([scores[:, None], flat], 1)

    name = ("at images", target.name)
    made = run.map_images(compute, rows, "scoring", extras=(target.rows,), name=name)
    return made[:, 1:].reshape(target.rows.shape).astype(target.rows.dtype), made[:, 0]


def _of_part(run: Run, target: Resolved, plan: Plan, count: int) -> Any:
    """Return a function of parts of evaluations: one of an image each, leading axis of 1."""
    apply = run.task.apply

    def compute(state: Any, units: tuple[Array, ...]) -> Array:
        image, number, start, seed, wanted, *baseline = (rows[0] for rows in units)
        image = to_float(image) if image.dtype == np.uint8 else image
        score = target.score(jnp.broadcast_to(wanted, (count, *wanted.shape)))
        key = jax.random.fold_in(jax.random.key(seed), number)
        own = plan._replace(baseline=baseline[0]) if baseline else plan
        sums = weighted_scores(
            lambda masked: score(*apply(state, masked)), image, key, own, start, count
        )
        return jnp.stack(sums)[None]

    return compute


def _units(
    rows: np.ndarray | Source, beside: list[np.ndarray], starts: range, seed: int, devices: int
) -> Iterator[Part]:
    """Yield every part of every image's evaluations, as many at a time as there are devices."""
    numbered = enumerate(row_chunks(rows, (1,)))
    every = (
        (
            image[0],
            np.uint32(number),
            np.int32(start),
            np.uint32(seed),
            *(b[number] for b in beside),
        )
        for number, (image, _) in numbered
        for start in starts
    )
    while gathered := list(islice(every, devices)):
        columns = (np.stack(column) for column in zip(*gathered, strict=True))
        yield tuple(padded(column, devices) for column in columns), len(gathered)
