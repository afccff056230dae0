"""A CPU's cores as devices of their own."""

import os

from vision_jax.errors import InputError

_FORCED = "xla_force_host_platform_device_count"


def told_devices() -> bool:
    """Whether the environment says how many devices a CPU is."""
    return bool(os.environ.get("JAX_NUM_CPU_DEVICES")) or _FORCED in os.environ.get("XLA_FLAGS", "")


def split_cpu(count: int) -> None:
    """Make a CPU this many devices; GPUs and TPUs stay as they are.

    Call it before JAX is used for anything else.

    Args:
        count: how many.

    Raises:
        InputError: JAX has begun with another number.
    """
    import jax  # here, so that --help is quick

    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has begun
        found = jax.device_count("cpu")
        if found != count:
            raise InputError(
                f"cpu_devices is {count}; it must be None or {found}, the number that JAX has "
                "begun with"
            ) from None
