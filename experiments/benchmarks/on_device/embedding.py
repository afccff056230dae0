"""Embedding images: on the device alone, and from host memory to host memory by `Run.embed`."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from on_device import peers
from on_device.clock import Repeat, Section, in_turns, timed
from on_device.steps import first
from on_device.tasks import batch_of, build, host_state
from vision_jax.config import ModelConfig, TrainClassifier
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import to_float
from vision_jax.parallel.devices import take_devices
from vision_jax.run.run import Run
from vision_jax.training.steps import DataParallel


def run_of(network: str, shape: tuple[int, int, int], dtype: str, device: Any = None) -> Run:
    """Make a run of a network at random weights.

    Args:
        network: a name of `models.MODELS`.
        shape: of its images.
        dtype: to compute in.
        device: where; the first one by default.
    """
    task = build(network, dtype)
    parallel = DataParallel((device,) if device else take_devices(1))
    state = parallel.replicate(host_state(task, shape))
    info = DataInfo(shape, tuple(map(str, range(1000))), 0, 0)
    config = TrainClassifier(model=ModelConfig(name="cnn"))
    return Run(Path(), config, info, 0, task, state, parallel)


def ours(run: Run, images: np.ndarray) -> Repeat:
    """Embed one batch of uint8 that stays on the device."""
    parallel, task = run.parallel, run.task
    mapped = parallel.pmap(
        lambda state, pixels: task.embed(state, to_float(pixels)), in_axes=(None, 0), out_axes=0
    )
    pixels = parallel.shard(images)

    def repeat(times: int) -> None:
        for _ in range(times):
            rows = mapped(run.state, pixels)
        jax.block_until_ready(rows)

    return repeat


def compare(
    section: Section,
    networks: tuple[str, ...],
    sizes: tuple[int, int, int],
    device: str | None,
    turns: tuple[int, float],
) -> None:
    """Time embedding by each network in bf16.

    Args:
        section: where figures go.
        networks: names of `models.MODELS`.
        sizes: side of the images, images of a batch, and images of a whole pass.
        device: PyTorch's; None without it.
        turns: rounds, and seconds of a turn.
    """
    side, count, many = sizes
    for network in networks:
        if not section.has_time(network):
            continue
        batch = batch_of((side, side, 3), count)["image"]
        run = run_of(network, (side, side, 3), "bfloat16")
        makers: dict[str, Any] = {"ours, on the device": partial(ours, run, batch)}
        if device and side == 224:
            makers["PyTorch, on the device"] = partial(peers.embeds, network, batch, device)
        ready = {}
        for name, make in makers.items():
            repeat = section.attempt(f"{network}, {name}", lambda make=make: first(make()))
            if repeat:
                ready[name] = repeat
        for name, row in in_turns(ready, rounds=turns[0], seconds=turns[1]).items():
            rate = count / row["seconds"]
            section.rows.append(
                {"network": network, "contender": name, "batch": count, **row}
                | {"images_per_second": rate}
            )
        if section.has_time(f"{network} from host memory"):
            pixels = np.resize(batch, (many, *batch.shape[1:]))
            section.attempt(f"{network} from host memory", run.embed, pixels[:count])
            passes = [timed(lambda: run.embed(pixels))[1] for _ in range(2)]  # noqa: B023
            section.rows.append(
                {"network": network, "contender": "ours, host to host by Run.embed", "batch": many}
                | {"seconds": min(passes), "images_per_second": many / min(passes)}
            )
