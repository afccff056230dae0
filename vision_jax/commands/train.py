"""Train a task, or resume it."""

import dataclasses
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

from vision_jax.config import (
    TrainAutoencoder,
    TrainCNN,
    TrainConfig,
    TrainGAN,
)
from vision_jax.parallel.processes import Distributed, joined


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run is kept, and how it is run; no part of its config."""

    workdir: Path
    """Folder for config.json, metrics.jsonl, TensorBoard events, checkpoints and, of an autoencoder
    or a GAN, a picture of what it makes after each epoch."""
    profile: str | None = None
    """Steps to trace into the workdir for TensorBoard and Perfetto, as START:STOP."""
    distributed: Distributed = dataclasses.field(default_factory=Distributed)
    """Who else trains the same run."""


_Flat = tyro.conf.arg(name="")


def train_cnn(place: Annotated[Place, _Flat], config: Annotated[TrainCNN, _Flat]) -> None:
    """Train the convolutional classifier.

    The same command in the same workdir goes on where it stopped. Ctrl-C saves and stops.
    Example: vision-jax train cnn --workdir runs/fashion --data.name fashion_mnist --data.flip

    Args:
        place: Where.
        config: What to train.
    """
    run_training(config, place)


def train_autoencoder(
    place: Annotated[Place, _Flat], config: Annotated[TrainAutoencoder, _Flat]
) -> None:
    """Train an autoencoder: convolutional, dense or variational.

    The same command in the same workdir goes on where it stopped. Ctrl-C saves and stops.
    Example: vision-jax train autoencoder --workdir runs/codes --model.kind dense

    Args:
        place: Where.
        config: What to train.
    """
    run_training(config, place)


def train_gan(place: Annotated[Place, _Flat], config: Annotated[TrainGAN, _Flat]) -> None:
    """Train a generator against a discriminator.

    The same command in the same workdir goes on where it stopped. Ctrl-C saves and stops.
    Example: vision-jax train gan --workdir runs/garments --data.name fashion_mnist

    Args:
        place: Where.
        config: What to train.
    """
    run_training(config, place)


def run_training(config: TrainConfig, place: Place) -> bool:
    """Trains, and says whether it came to the end."""
    from vision_jax.run.train import train
    from vision_jax.training.profile import parse_steps

    steps = None if place.profile is None else parse_steps(place.profile)
    # JAX takes SIGTERM for itself as it joins the processes.
    with joined(place.distributed), _stop_on_signals() as should_stop:
        result = train(config, place.workdir, should_stop=should_stop, profile=steps)
    if result.finished:
        print(f"trained {config.epochs} epochs -> {place.workdir}")
    else:
        print(f"stopped and saved at step {int(result.state.step)}; the same command goes on")
    return result.finished


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a request; a second one ends the process."""
    asked = []

    def note(number: Any, _frame: Any) -> None:
        asked.append(number)
        signal.signal(number, old[number])

    # A handler that was not set from Python reads as None, and cannot be set again.
    numbers = (signal.SIGINT, signal.SIGTERM)
    old = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    for number in old:
        signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
