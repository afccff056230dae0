"""Train a task, or resume it."""

import dataclasses
import inspect
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

from vision_jax.commands.messages import in_options
from vision_jax.config import TrainConfig
from vision_jax.errors import InputError
from vision_jax.parallel.distributed import Distributed


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Run directory and execution options; not part of the config."""

    workdir: Path
    """Folder for config.json, metrics.jsonl, TensorBoard events, checkpoints and, for an
    autoencoder or a GAN, pictures after each epoch."""
    extend: bool = False
    """Train a finished run on: more --epochs in all and, if you like, another learning rate,
    schedule, augmentation or patience; other options as they were. The schedule, warm-up included,
    begins anew over the added epochs, from the last weights and optimizer state."""
    folds: int | None = None
    """Cross-validate: divide the training split into this many parts, train a run without each in
    WORKDIR/fold_1, fold_2 and so on, and print the mean and deviation of their metrics on it."""
    cpu_devices: int | None = None
    """Devices to make of a CPU, each of which takes a part of every batch. Results depend on their
    number, which a resumed run keeps. Default: $JAX_NUM_CPU_DEVICES, else one for each core where
    that is faster, else 1."""
    profile: str | None = None
    """Steps to trace into the workdir for TensorBoard and Perfetto, as START:STOP."""
    distributed: Distributed = dataclasses.field(default_factory=Distributed)
    """Other processes that train the same run."""


_Flat = tyro.conf.arg(name="")


def train_command(config_type: type[TrainConfig]) -> Callable[..., None]:
    """Make the command that trains a config's task.

    Args:
        config_type: a value of `config.TASKS`; its docstring is the command's.

    Returns:
        A function from whose signature the command line is generated.
    """

    def command(
        options: Annotated[RunOptions, _Flat],
        config: Annotated[config_type, _Flat],  # type: ignore[valid-type]
    ) -> None:
        from vision_jax.run.cpu_devices import divide_cpu

        if not options.distributed.enabled or options.cpu_devices is not None:
            first = options.workdir if options.folds is None else options.workdir / "fold_1"
            divide_cpu(config, first, options.cpu_devices)
        run_training(config, options, tell=lambda error: in_options(str(error), command))

    summary, _, example = inspect.cleandoc(config_type.__doc__ or "").partition("\n\n")
    resumes = "Rerun the same command in the same workdir to resume. Ctrl-C saves and stops."
    command.__doc__ = f"{summary}\n\n{resumes}\n\n{example}"
    return command


def run_training(
    config: TrainConfig, options: RunOptions, *, tell: Callable[[Exception], str] = str
) -> bool:
    """Train a config, and say whether it came to the end.

    Args:
        config: what to train.
        options: where and how.
        tell: makes the message of an error that ends one of several processes.
    """
    from vision_jax.parallel.processes import joined
    from vision_jax.run.train import train
    from vision_jax.training.profile import parse_steps

    if options.folds is not None:
        return _run_folds(config, options, tell)
    steps = None if options.profile is None else parse_steps(options.profile)
    # JAX takes SIGTERM for itself as it joins the processes.
    with joined(options.distributed, tell), _stop_on_signals() as should_stop:
        result = train(
            config,
            options.workdir,
            extend=options.extend,
            should_stop=should_stop,
            profile=steps,
        )
    if result.early_stop:
        print(f"stopped early {result.early_stop} -> {options.workdir}")
    elif result.finished:
        print(f"trained {config.epochs} epochs -> {options.workdir}")
    else:
        print(f"stopped and saved at step {int(result.state.step)}; rerun to resume")
    return result.finished


def _run_folds(config: TrainConfig, options: RunOptions, tell: Callable[[Exception], str]) -> bool:
    """Cross-validate a config, print the table, and say whether it came to the end."""
    from vision_jax.parallel.processes import joined
    from vision_jax.reports.metrics import fold_rows
    from vision_jax.run.folds import FILE, train_folds
    from vision_jax.visual.text import text_table

    folds, workdir = options.folds or 0, options.workdir
    if options.profile is not None:
        raise InputError(f"profile is {options.profile!r}; None is needed with folds")
    with joined(options.distributed, tell), _stop_on_signals() as should_stop:
        spreads = train_folds(
            config, workdir, folds, extend=options.extend, should_stop=should_stop
        )
    if spreads is None:
        print("stopped and saved; rerun to resume")
        return False
    print(text_table(*fold_rows(spreads), indent=2))
    print(f"mean and deviation over {folds} folds -> {workdir / FILE}")
    return True


def parse_options(words: list[str], *, numbers: bool = False) -> dict[str, Any]:
    """Read options of a model or a loss, or the weights of classes, from the command line's words.

    Args:
        words: NAME=VALUE each; the value is JSON, or else text.
        numbers: whether values are numbers, so that a name may hold "=".

    Raises:
        InputError: a word is of another form, or names what an earlier one does.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.rpartition("=") if numbers else word.partition("=")
        if not (name and equals):
            raise InputError(f"an option is {word!r}; it must be NAME=VALUE")
        if name in options:
            raise InputError(f"an option is {word!r}; {name} must be given once")
        try:
            options[name] = json.loads(text)
        except json.JSONDecodeError:
            options[name] = text
    return options


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request; a second one ends the process."""
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
