"""The command line, `vision-jax`."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tyro

from vision_jax.commands import (
    augmentations,
    check,
    duplicates,
    evaluate,
    generate,
    index,
    inspect,
    prepare,
    quickstart,
    report,
    search,
)
from vision_jax.commands import train as training
from vision_jax.errors import DataWarning, InputError, RunError

COMMANDS: dict[str, Callable[..., Any]] = {
    "quickstart": quickstart.quickstart,
    "evaluate": evaluate.evaluate,
    "index": index.index,
    "search": search.search,
    "duplicates": duplicates.duplicates,
    "generate": generate.generate,
    "report": report.report,
    "check": check.check,
    "prepare": prepare.prepare,
    "inspect": inspect.inspect,
    "augmentations": augmentations.augmentations,
}
FAMILIES: dict[str, Callable[..., Any]] = {
    "cnn": training.train_cnn,
    "autoencoder": training.train_autoencoder,
    "gan": training.train_gan,
}


def train() -> None:
    """Train a network: cnn, autoencoder or gan. See `vision-jax train --help`."""


def _use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the environment says where or not to."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "vision_jax" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


_NO_CACHE = "--no-compilation-cache"
_DESCRIPTION = f"""Image search and recognition in JAX.

Compiled programs are kept between runs in ~/.cache/vision_jax/xla, or where
$JAX_COMPILATION_CACHE_DIR says; `vision-jax {_NO_CACHE} COMMAND ...` keeps none."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

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
    # tfds and orbax tell absl's log all they do; what goes wrong is raised.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that are not UTF-8
    try:
        with _data_warnings_on_one_line():
            _run(words)
    except InputError as error:
        print(f"vision-jax: {error}", file=sys.stderr)
        return 2
    except (RunError, OSError) as error:  # such as a disk that is full
        print(f"vision-jax: {error}", file=sys.stderr)
        return 1
    return 0


def _run(words: list[str]) -> None:
    if words[:1] == ["train"]:
        tyro.extras.subcommand_cli_from_dict(
            FAMILIES, prog="vision-jax train", description="Train a network.", args=words[1:]
        )
    else:
        tyro.extras.subcommand_cli_from_dict(
            {"train": train, **COMMANDS}, prog="vision-jax", description=_DESCRIPTION, args=words
        )


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


if __name__ == "__main__":
    sys.exit(main())
