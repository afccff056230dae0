"""What the files of figures say of how they were made."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Any

import jax


def description(command: str, packages: Sequence[str]) -> dict[str, Any]:
    """State how figures of emoji were made: command, date, hardware and versions.

    Args:
        command: what was typed.
        packages: those whose versions matter.
    """
    versions = {name: importlib.metadata.version(name) for name in packages}
    versions |= {"python": platform.python_version(), "emoji-datasource": "16.0.0"}
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {jax.default_backend()}",
        "versions": versions,
    }
