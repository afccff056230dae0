"""The command line, `vision-jax`."""

import importlib
import io
import logging
import os
import select
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, get_args

import tyro

from vision_jax.commands.messages import in_options
from vision_jax.commands.train import parse_options, train_command
from vision_jax.config import TASKS
from vision_jax.errors import DataWarning, InputError, RunError

COMMANDS: dict[str, str] = {
    "photos": "vision_jax.commands.photos:photos",
    "import": "vision_jax.commands.import_:import_",
    "quickstart": "vision_jax.commands.quickstart:quickstart",
    "predict": "vision_jax.commands.predict:predict",
    "evaluate": "vision_jax.commands.evaluate:evaluate",
    "calibrate": "vision_jax.commands.calibrate:calibrate",
    "index": "vision_jax.commands.index:index",
    "merge": "vision_jax.commands.merge:merge",
    "search": "vision_jax.commands.search:search",
    "duplicates": "vision_jax.commands.duplicates:duplicates",
    "serve": "vision_jax.commands.serve:serve",
    "generate": "vision_jax.commands.generate:generate",
    "explain": "vision_jax.commands.explain:explain",
    "export": "vision_jax.commands.export:export",
    "report": "vision_jax.commands.report:report",
    "check": "vision_jax.commands.check:check",
    "prepare": "vision_jax.commands.prepare:prepare",
    "inspect": "vision_jax.commands.inspect:inspect",
    "augmentations": "vision_jax.commands.augmentations:augmentations",
}
"""Where the function of each command is; its signature and docstring are the command line's."""


def train() -> None:
    """See `vision-jax train --help`."""


train.__doc__ = f"Train a task: {', '.join(TASKS)}. {train.__doc__}"


_NO_CACHE = "--no-compilation-cache"
_CACHE_BYTES = 1 << 30
_DESCRIPTION = f"""Image search and recognition in JAX.

Compiled programs are cached between runs in ~/.cache/vision_jax/xla, or where
$JAX_COMPILATION_CACHE_DIR says; `vision-jax {_NO_CACHE} COMMAND ...` disables that."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after `vision-jax`; the process's own by default.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad input.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == [_NO_CACHE]:
        words = words[1:]
    else:
        _use_compilation_cache()
    # tfds and orbax log all they do to absl; what goes wrong is raised.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that are not UTF-8
    command = None
    try:
        name, command, rest = _called(words)
        with _data_warnings_on_one_line(), _REGISTRY, _flushed():
            if command is None:
                _list_commands(words)
            else:
                # The options of the other commands would take a while to read.
                tyro.cli(command, prog=f"vision-jax {name}", args=rest)
    except InputError as error:
        print(f"vision-jax: {_told(error, command)}", file=sys.stderr)
        return 2
    except (RunError, OSError) as error:  # such as a full disk
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return 141  # as shells report SIGPIPE
        print(f"vision-jax: {_told(error, command)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vision-jax: interrupted", file=sys.stderr)
        return 130  # as shells report it
    return 0


def _called(words: list[str]) -> tuple[str, Callable[..., Any] | None, list[str]]:
    """Find the command that the words call, if they call one, and the words that are its own."""
    match words:
        case ["train", name, *rest] if name in TASKS:
            return f"train {name}", train_command(TASKS[name]), rest
        case [name, *rest] if name in COMMANDS:
            return name, _function(name), rest
    return "", None, words


def _function(name: str) -> Callable[..., Any]:
    module, _, function = COMMANDS[name].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _list_commands(words: list[str]) -> None:
    """Answer words that call no command: with the list of all, or with what is wrong."""
    if words[:1] == ["train"]:
        tyro.extras.subcommand_cli_from_dict(
            {name: train_command(config) for name, config in TASKS.items()},
            prog="vision-jax train",
            description="Train a task.",
            args=words[1:],
        )
    else:
        tyro.extras.subcommand_cli_from_dict(
            {"train": train, **{name: _summarised(_function(name)) for name in COMMANDS}},
            prog="vision-jax",
            description=_DESCRIPTION,
            args=words,
        )


def _summarised(function: Callable[..., Any]) -> Callable[..., Any]:
    """Describe a command by its first line alone, and without its options."""

    def summarised() -> None: ...

    summarised.__doc__ = (function.__doc__ or "").partition("\n")[0]
    return summarised


@contextmanager
def _flushed() -> Iterator[None]:
    """Write out what is printed, also before an exit, where Python would report a broken pipe."""
    try:
        yield
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def _reader_is_gone() -> bool:
    """Whether what reads the output has ended, as `head` does; then the rest is discarded."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if gone := any(event & select.POLLERR for _, event in poll.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _told(error: Exception, command: Callable[..., Any] | None) -> str:
    return str(error) if command is None else in_options(str(error), command)


def _use_compilation_cache() -> None:
    """Cache compiled programs between runs, unless the environment says where or not to."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "vision_jax" / "xla"
    if os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder)) == str(folder):
        _bound(folder)
    # Small programs, too: a command has dozens, each of which takes longer to compile than to read.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _bound(folder: Path) -> None:
    """Remove what was cut off in writing from a cache and, if it has grown too large, the oldest.

    JAX would try to read an empty program in every process, and never write it again.
    """
    with suppress(OSError):  # such as no cache yet, or a file that another process has removed
        found = [(entry, entry.stat()) for entry in os.scandir(folder)]
        found.sort(key=lambda each: max(each[1].st_atime, each[1].st_mtime))
        excess = sum(about.st_size for _, about in found) - _CACHE_BYTES
        for entry, about in found:
            if excess > 0 or not about.st_size:
                Path(entry).unlink(missing_ok=True)
                excess -= about.st_size


@contextmanager
def _data_warnings_on_one_line() -> Iterator[None]:
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_message(message: Any, category: Any, *place: Any, **options: Any) -> None:
            if issubclass(category, DataWarning):
                print(f"vision-jax: {message}", file=sys.stderr)
            else:
                show(message, category, *place, **options)

        warnings.simplefilter("always", DataWarning)
        warnings.showwarning = show_message
        yield


_REGISTRY = tyro.constructors.ConstructorRegistry()


@_REGISTRY.primitive_rule
def _options_rule(info: Any) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """How a model's options are written on the command line."""
    if info.type_origin is not dict:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME=VALUE",
        instance_from_str=partial(parse_options, numbers=get_args(info.type)[1] is float),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda options: [f"{name}={value}" for name, value in options.items()],
    )


if __name__ == "__main__":
    sys.exit(main())
