"""Distributed runs: joining processes, stopping together, and losing one."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from vision_jax.errors import InputError, RunError

# The command line reads the arguments from here, and must answer --help without loading JAX.

ASKED = "asked"
"""The entry that `Vote.ballot` adds to an item; a step sums it over the processes."""

_LOST = (
    "vision-jax: this distributed run ended: a process failed or could not be reached; rerun the "
    "same command in every process to resume from the last checkpoint"
)
_MESSAGE_BYTES = 2048

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Distributed:
    """The processes that train one run, on one machine or many.

    All run the same command on the same workdir, in a shared file system.
    """

    auto: bool = False
    """Detect the processes from the cluster: SLURM, Open MPI, Cloud TPU or Kubernetes."""
    coordinator: str | None = None
    """Without a cluster: HOST:PORT of process 0."""
    processes: int | None = None
    """Without a cluster: how many processes there are."""
    process_id: int | None = None
    """Without a cluster: the rank of this process, in [0, processes)."""
    heartbeat: int = 20
    """Seconds without a heartbeat after which a process counts as lost and the run ends."""

    @property
    def wanted(self) -> bool:
        """Whether there are other processes."""
        return self.auto or any(value is not None for value in self._by_hand)

    @property
    def _by_hand(self) -> tuple[str | int | None, ...]:
        return self.coordinator, self.processes, self.process_id

    def check(self) -> None:
        """Refuse values that describe no group.

        Raises:
            InputError: If a value is missing or out of range.
        """
        if self.heartbeat < 1:
            raise InputError(f"heartbeat is {self.heartbeat}; it must be at least 1")
        if self.auto:
            if any(value is not None for value in self._by_hand):
                raise InputError(
                    "auto was given with coordinator, processes or process_id; "
                    "one or the other is needed"
                )
            return
        host, _, port = (self.coordinator or "").rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise InputError(f"coordinator is {self.coordinator!r}; HOST:PORT is needed")
        if self.processes is None or self.processes < 1:
            raise InputError(f"processes is {self.processes}; it must be at least 1")
        if self.process_id is None or not 0 <= self.process_id < self.processes:
            raise InputError(
                f"process_id is {self.process_id}; it must be in [0, {self.processes})"
            )


@contextlib.contextmanager
def joined(group: Distributed) -> Iterator[None]:
    """Join the other processes; call it before JAX is used.

    On error, print and exit at once; otherwise JAX's exit barrier deadlocks with peers blocked in a
    step.

    Args:
        group: The processes; a single process joins nothing.

    Raises:
        InputError: If the group is described wrongly, or no cluster is found.
    """
    if not group.wanted:
        yield
        return
    group.check()
    import jax

    farewell = _Farewell()
    try:
        jax.distributed.initialize(
            coordinator_address=group.coordinator,
            num_processes=group.processes,
            process_id=group.process_id,
            heartbeat_timeout_seconds=group.heartbeat,
        )
    except (RuntimeError, ValueError) as error:
        farewell.cancel()
        raise InputError(f"the processes of this run cannot be joined: {error}") from error
    try:
        yield
    except BaseException as error:
        _end(error, farewell)
    farewell.cancel()


def _end(error: BaseException, farewell: "_Farewell") -> None:
    if isinstance(error, InputError | RunError):
        print(f"vision-jax: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    if isinstance(error, InputError) or (isinstance(error, RunError) and error.final):
        farewell.cancel()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if isinstance(error, InputError) else 1)


class _Farewell:
    """A small process that prints how to resume if this one ends without `cancel`.

    JAX aborts a process whose peers are lost, and an abort runs no Python of its own.
    """

    def __init__(self) -> None:
        code = f"import sys; sys.stdin.read() or print({_LOST!r}, file=sys.stderr)"
        # A session of its own, so that a Ctrl-C to the group does not end it first.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, start_new_session=True
        )

    def cancel(self) -> None:
        """End it without a message."""
        self._process.communicate(b"done")


def first_alone(action: Callable[[], Result]) -> Result | None:
    """Run an action in process 0 while the others wait for it.

    Returns:
        The action's result in process 0, None in the others.

    Raises:
        InputError: In every process, if process 0 raised it.
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
    sent = np.frombuffer(message.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)
    heard = np.asarray(multihost_utils.broadcast_one_to_all(sent), np.uint8)
    if told := heard.tobytes().rstrip(b"\0").decode(errors="replace"):
        raise InputError(told)
    return result


class Vote:
    """Make all processes stop after the same step, though each may be asked at another time.

    A request travels with the next step's item, and the step sums the requests. A request seen in
    a step's metrics takes effect `ahead` steps later, when every process has seen it.

    Args:
        processes: How many there are; a single one stops at once.
        ahead: How many steps a process may be ahead of the metrics that it has seen.
    """

    def __init__(self, processes: int, ahead: int) -> None:
        self._alone, self._ahead = processes == 1, ahead
        self._asked = False
        self._stop_at: int | None = None

    def ask(self, asked: bool) -> None:
        """Record whether this process was asked to stop."""
        self._asked = self._asked or asked

    def ballot(self, devices: int) -> dict[str, np.ndarray]:
        """Return the entry for an item: this process's request, for each of its devices."""
        return {} if self._alone else {ASKED: np.full(devices, self._asked, np.int32)}

    def count(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record the requests of all processes in a step, from its metrics."""
        if not self._alone and self._stop_at is None and int(metrics[ASKED]):
            self._stop_at = step + self._ahead

    def stops(self, step: int) -> bool:
        """Say whether to stop after a step inside an epoch."""
        if self._alone:
            return self._asked
        return self._stop_at is not None and step >= self._stop_at

    @property
    def settled(self) -> bool:
        """Whether to stop where every process has seen the metrics of all steps."""
        return self._asked if self._alone else self._stop_at is not None
