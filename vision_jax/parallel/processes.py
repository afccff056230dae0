"""Several processes: joining them, acting and stopping together, and handling lost ones."""

import contextlib
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from vision_jax.errors import InputError, RunError
from vision_jax.parallel.distributed import Distributed
from vision_jax.parallel.native_output import NativeOutput

ASKED = "asked"
"""Key of the stop requests in an item, which a step sums over all processes."""

_ONE_LINE = (InputError, RunError, OSError)
_CONNECTION = re.compile(
    r"gloo|nccl|connection (closed|reset)|socket closed|coordination service", re.IGNORECASE
)
"""What an error says that a lost process caused."""
_CHECKED_AFTER = 15
"""Seconds beyond the heartbeat in which JAX aborts a process whose peers are lost."""
_MESSAGE_BYTES = 2048
_HOST_BYTES = 64
_GRACE = 1.0
"""Seconds for which process 0, whose end aborts the others, waits for them to refuse the same."""

Result = TypeVar("Result")


@contextlib.contextmanager
def joined(
    group: Distributed,
    tell: Callable[[Exception], str] = str,
    *,
    kept: str = "the last checkpoint",
) -> Iterator[None]:
    """Join the other processes, before JAX is used for anything else.

    On an error inside the block, print it and exit at once; otherwise JAX's exit barrier deadlocks
    with peers that are blocked in a step.

    Args:
        group: the processes; a single one joins nobody.
        tell: makes the message of an error that is printed.
        kept: what a rerun resumes from once a process is lost.

    Raises:
        InputError: the group is invalid, no cluster is found, or the processes cannot connect.
    """
    if not group.enabled:
        yield
        return
    group.check()
    import jax

    with NativeOutput(kept) as output:
        try:
            jax.distributed.initialize(
                coordinator_address=group.coordinator,
                num_processes=group.processes,
                process_id=group.process_id,
                cluster_detection_method=_detection(os.environ) if group.auto else None,
                heartbeat_timeout_seconds=group.heartbeat,
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"the processes of this run cannot be joined: {error}") from error
        try:
            _HOSTS[:] = _hosts()
            output.name_peers(_HOSTS)
            yield
        except BaseException as error:
            if not isinstance(error, _ONE_LINE) and _CONNECTION.search(str(error)):
                # JAX learns by the heartbeat whom it lost, and aborts; `output` then says it.
                time.sleep(group.heartbeat + _CHECKED_AFTER)
            _exit(error, output, tell)


def _detection(environment: Mapping[str, str]) -> str | None:
    """Choose how JAX detects the cluster; None lets it try all it knows.

    Open MPI from version 5 on does not say where its launcher is; JAX then asks mpi4py, but only if
    it is told to.
    """
    new = "OMPI_COMM_WORLD_SIZE" in environment and "OMPI_MCA_orte_hnp_uri" not in environment
    return "mpi4py" if new and "SLURM_PROCID" not in environment else None


def _hosts() -> list[str]:
    """Gather the host name of every process."""
    name = socket.gethostname().encode()[:_HOST_BYTES]
    rows = gathered(np.frombuffer(name.ljust(_HOST_BYTES, b"\0"), np.uint8))
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]


_HOSTS: list[str] = []


def name_of(process: int) -> str:
    """Name a process for people, by its number and its host."""
    return f"process {process}" + (f" on {_HOSTS[process]}" if process < len(_HOSTS) else "")


def _exit(error: BaseException, output: NativeOutput, tell: Callable[[Exception], str]) -> None:
    import jax

    if isinstance(error, _ONE_LINE):
        print(f"vision-jax: {tell(error)}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    if isinstance(error, InputError) or (isinstance(error, RunError) and error.final):
        output.expect_end()
        if jax.process_index() == 0:
            time.sleep(_GRACE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if isinstance(error, InputError) else 1)


def first_alone(action: Callable[[], Result]) -> Result | None:
    """Run an action in process 0 while the others wait for it.

    Returns:
        The action's result in process 0, None in the others.

    Raises:
        InputError: in all processes, if process 0 raises it.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return action()
    result, message = None, b""
    if jax.process_index() == 0:
        try:
            result = action()
        except InputError as error:
            message = str(error).encode()[:_MESSAGE_BYTES]
    _raise_any(multihost_utils.broadcast_one_to_all(_as_row(message)))
    return result


def together(action: Callable[[], Result]) -> Result:
    """Run an action in all processes, so that what one refuses all do.

    Raises:
        InputError: in all processes, if any raises it.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return action()
    result, message = None, b""
    try:
        result = action()
    except InputError as error:
        message = str(error).encode()[:_MESSAGE_BYTES]
    _raise_any(multihost_utils.process_allgather(_as_row(message)))
    return cast(Result, result)


def gathered(values: np.ndarray) -> np.ndarray:
    """Return the values of all processes, (processes, ...), to each of them."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return values[None]
    return np.asarray(multihost_utils.process_allgather(values))


def _as_row(message: bytes) -> np.ndarray:
    return np.frombuffer(message.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)


def _raise_any(received: Any) -> None:
    for row in np.asarray(received, np.uint8).reshape(-1, _MESSAGE_BYTES):
        if text := row.tobytes().rstrip(b"\0").decode(errors="replace"):
            raise InputError(text)


class Vote:
    """Make all processes stop after the same step, whenever each is asked to.

    A process sends its request with its next item, and the step sums the requests. Once a step's
    metrics hold a request, all processes stop `ahead` steps later: by then, all have seen it.

    Args:
        processes: number of processes; a single one stops at once.
        ahead: maximum number of steps dispatched before their metrics are read.
    """

    def __init__(self, processes: int, ahead: int) -> None:
        self._alone, self._ahead = processes == 1, ahead
        self._asked = False
        self._stop_at: int | None = None

    def ask(self, asked: bool) -> None:
        """Record whether this process is asked to stop."""
        self._asked = self._asked or asked

    def ballot(self, devices: int) -> dict[str, np.ndarray]:
        """Return this process's request for each of its devices, to send with an item."""
        return {} if self._alone else {ASKED: np.full(devices, self._asked, np.int32)}

    def count(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Read all processes' requests from the metrics of a step."""
        if not self._alone and self._stop_at is None and int(metrics[ASKED]):
            self._stop_at = step + self._ahead

    def stops(self, step: int) -> bool:
        """Return whether to stop after a step within an epoch."""
        if self._alone:
            return self._asked
        return self._stop_at is not None and step >= self._stop_at

    @property
    def settled(self) -> bool:
        """Whether to stop now that all processes have read the metrics of all steps."""
        return self._asked if self._alone else self._stop_at is not None
