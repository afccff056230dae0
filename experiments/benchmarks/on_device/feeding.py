"""Feeding a device: what of a training step it waits for uint8 batches from host memory."""

from functools import partial
from typing import Any

import jax
import numpy as np

from on_device.clock import Section, in_turns, timed
from on_device.tasks import SHAPES, batch_of, build, float_shapes, host_state
from vision_jax.augment.recipes import augment
from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource
from vision_jax.parallel.devices import take_devices
from vision_jax.training.loop import fit
from vision_jax.training.steps import DataParallel, augmented


def measure(
    section: Section, network: str, dtype: str, sizes: tuple[int, int, int], recipe: str
) -> None:
    """Train by `fit` from images in host memory, and by the same step on a batch that is there.

    Args:
        section: where figures go.
        network: see `tasks.build`.
        dtype: to compute in.
        sizes: side of the images, images of a batch, and steps of an epoch.
        recipe: of augmentation, which runs on the device.
    """
    side, count, steps = sizes
    shape = SHAPES.get(network, (side, side, 3))
    batch = batch_of(shape, count)
    task, parallel = build(network, dtype), DataParallel(take_devices(1))
    change = partial(augment, recipe=recipe)
    state = host_state(task, shape)
    totals = parallel.zeros(augmented(task, change), state, float_shapes(batch))
    step, item = parallel.train_step(task, change), parallel.shard(batch)
    placed = parallel.replicate(state)

    def repeat(times: int) -> None:
        nonlocal placed, totals
        for _ in range(times):
            placed, totals, metrics = step(placed, totals, {}, item)
        jax.block_until_ready((placed, metrics))

    _, compiling = timed(lambda: repeat(1))
    still = in_turns({"still": repeat}, rounds=3, seconds=0.3)["still"]["seconds"]
    section.rows.append(
        {"network": network, "dtype": dtype, "batch": count, "images": "on the device"}
        | {"recipe": recipe, "seconds": still, "images_per_second": count / still}
        | {"first_seconds": compiling}
    )
    if not section.has_time("images from host memory"):
        return
    speeds: list[dict[str, float]] = []

    def log(_: Any, measured: dict[str, float]) -> None:
        speeds.append(measured)

    rows = {name: np.resize(batch[name], (count * steps, *batch[name].shape[1:])) for name in batch}
    source = ArraySource.from_arrays(rows["image"], rows["label"])
    loader = Loader(source, count, train=True, on_device_bytes=0)
    settings: Any = {"augment": change, "parallel": parallel, "log": log, "progress": False}
    fit(task, loader, epochs=3, state=host_state(task, shape), **settings)
    best = max(speeds[1:], key=lambda epoch: epoch["images_per_second"])
    fed = best["images_per_second"]
    section.rows.append(
        {"network": network, "dtype": dtype, "batch": count, "images": "from host memory"}
        | {"recipe": recipe, "seconds": count / fed, "images_per_second": fed}
        | {"host_wait": best["data_wait"], "device_wait": max(0.0, 1 - fed * still / count)}
    )
