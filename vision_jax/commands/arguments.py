"""Arguments that commands share."""

from pathlib import Path
from typing import Annotated, Any

import tyro

from vision_jax.errors import InputError

Workdir = tyro.conf.Positional[Path]
DataName = Annotated[str | None, tyro.conf.arg(name="data.name")]


def parse_checkpoint(text: str) -> Any:
    """Read a checkpoint from the command line's word for it."""
    if text in ("best", "last"):
        return text
    if text.isdecimal():
        return int(text)
    raise InputError(f"checkpoint is {text!r}; it must be best, last or a step")
