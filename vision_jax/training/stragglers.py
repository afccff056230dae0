"""Name the process whose images come late, which slows the steps of all."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from vision_jax.parallel.processes import gathered, name_of

_LATE = 0.2


def find_late(waits: Sequence[float]) -> int | None:
    """Choose the process that the others wait for.

    Args:
        waits: for each process, the share of its time in [0, 1] spent waiting for images.

    Returns:
        The one that waits longest, if that is a fifth of its time or more and twice the median of
        the others; None without.
    """
    if len(waits) < 2:
        return None
    late = int(np.argmax(waits))
    others = median([wait for process, wait in enumerate(waits) if process != late])
    return late if waits[late] >= max(_LATE, 2 * others) else None


def late_process(data_wait: float) -> str | None:
    """Compare how long all processes waited for images, once they have trained an epoch.

    All processes call it together; it takes one exchange of a number.

    Args:
        data_wait: see `find_late`; of this process.

    Returns:
        A line about the process that the others wait for; None if all keep up.
    """
    waits = gathered(np.array([data_wait], np.float32))[:, 0].tolist()
    late = find_late(waits)
    if late is None:
        return None
    others = median([wait for process, wait in enumerate(waits) if process != late])
    return (
        f"{name_of(late)} waited for its images {waits[late]:.0%} of the epoch, the others "
        f"{others:.0%}: its disk, network or CPU slows all"
    )
