"""What the figures were measured on: the device, its driver and the libraries."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from typing import Any

import jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")
_ASKED = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")


def described() -> dict[str, Any]:
    """Describe the device and the versions."""
    device = jax.devices()[0]
    card = _card() if device.platform == "gpu" else {}
    stats = device.memory_stats() or {}
    return {
        "device": card.get("name") or device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "memory_limit": stats.get("bytes_limit"),
        "card": card,
        "versions": {"python": platform.python_version(), **_versions(), **_of_torch()},
        "cores": os.cpu_count(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _of_torch() -> dict[str, str]:
    try:
        import torch
    except ImportError:
        return {}
    built = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {name: str(value) for name, value in built.items() if value}


def _card() -> dict[str, str]:
    """Ask the driver's tool, which need not be there."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return {}
    command = [tool, f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_ASKED, (cell.strip() for cell in said.stdout.split(",")), strict=False))
