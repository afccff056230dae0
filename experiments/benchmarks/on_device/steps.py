"""Training steps: this project's beside PyTorch's."""

from functools import partial
from typing import Any

import jax
import numpy as np
import training

from on_device import peers
from on_device.clock import NO_MEMORY, Repeat, Section, in_turns, timed
from on_device.tasks import SHAPES, batch_of, build, float_shapes, host_state
from vision_jax.parallel.devices import take_devices
from vision_jax.training.steps import DataParallel, augmented


def ours(network: str, batch: dict[str, np.ndarray], dtype: str) -> Repeat:
    """Build this project's training steps on one batch of uint8 that stays on the device."""
    task, parallel = build(network, dtype), DataParallel(take_devices(1))
    state = host_state(task, batch["image"].shape[1:])
    totals = parallel.zeros(augmented(task, None), state, float_shapes(batch))
    state, item = parallel.replicate(state), parallel.shard(batch)
    step = parallel.train_step(task)

    def repeat(times: int) -> None:
        nonlocal state, totals
        for _ in range(times):
            state, totals, metrics = step(state, totals, {}, item)
        jax.block_until_ready((state, metrics))

    return repeat


def compare(
    section: Section,
    network: str,
    batch_size: int,
    side: int,
    dtypes: tuple[str, ...],
    device: str | None,
    *,
    compiled: float = 0.0,
    flops: float = 0.0,
    turns: tuple[int, float] = (5, 0.3),
) -> bool:
    """Time a network's training steps in every form that fits and the budget allows.

    Args:
        section: where figures go.
        network: its name, see `tasks.build`.
        batch_size: images of a step.
        side: of ImageNet's networks' images.
        dtypes: the types to compute in.
        device: PyTorch's; None without it.
        compiled: seconds that `torch.compile` takes before its turn, in the last of the types; 0
            gives it none.
        flops: counted operations of a step per image.
        turns: rounds, and seconds of a turn.

    Returns:
        Whether all that there was time for fitted into memory.
    """
    shape = SHAPES.get(network, (side, side, 3))
    batch = batch_of(shape, batch_size, 10 if network in SHAPES else 1000)
    contenders: dict[str, Repeat] = {}
    firsts: dict[str, float] = {}

    def add(name: str, builder: Any, needed: float = 0.0) -> None:
        def started() -> Repeat:
            repeat, seconds = timed(lambda: first(builder()))
            firsts[name] = seconds
            return repeat

        repeat = section.attempt(f"{name}, {batch_size} images", started, needed=needed)
        if repeat:
            contenders[name] = repeat

    for dtype in dtypes:
        add(f"ours, {dtype}", partial(ours, network, batch, dtype))
        if device:
            half = dtype == "bfloat16"
            peer = partial(peers.trained, network, batch["image"], batch["label"], device)
            name = f"PyTorch, {'bfloat16 autocast' if half else 'float32'}"
            add(f"{name}, eager", partial(peer, bf16=half, compiled=False))
            if compiled and dtype == dtypes[-1]:
                add(f"{name}, compiled", partial(peer, bf16=half, compiled=True), compiled)
    for name, row in in_turns(contenders, rounds=turns[0], seconds=turns[1]).items():
        section.rows.append(
            {
                "network": network,
                "batch": batch_size,
                "contender": name,
                **row,
                "images_per_second": batch_size / row["seconds"],
                "first_seconds": firsts[name],
                "counted_tflops": flops * batch_size / row["seconds"] / 1e12,
            }
        )
    return not any(one["why"] == NO_MEMORY for one in section.left_out)


def first(repeat: Repeat) -> Repeat:
    """Run the first step, which compiles."""
    repeat(1)
    return repeat


def counted(network: str) -> float:
    """Count the operations of one image's training step; see `training.counted_work`."""
    return training.counted_work(network)
