"""Which processes work together, as the command line reads it: without NumPy and JAX."""

import dataclasses

from vision_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Distributed:
    """Processes that train one run or write one index together, on one or several machines.

    All run the same command, and share the file system that it writes to.
    """

    auto: bool = False
    """Detect the processes from the cluster: SLURM, Open MPI, Cloud TPU or Kubernetes."""
    coordinator: str | None = None
    """Without a cluster: HOST:PORT of process 0."""
    processes: int | None = None
    """Without a cluster: number of processes."""
    process_id: int | None = None
    """Without a cluster: index of this process, in [0, processes)."""
    heartbeat: int = 20
    """Seconds without a heartbeat after which a process counts as lost and the run stops."""

    @property
    def enabled(self) -> bool:
        """Whether the run has other processes."""
        return self.auto or any(value is not None for value in self._manual)

    @property
    def _manual(self) -> tuple[str | int | None, ...]:
        return self.coordinator, self.processes, self.process_id

    def check(self) -> None:
        """Check that the fields describe a group of processes.

        Raises:
            InputError: a value is missing, out of range or in conflict with another.
        """
        if self.heartbeat < 1:
            raise InputError(f"heartbeat is {self.heartbeat}; it must be at least 1")
        if self.auto:
            if any(value is not None for value in self._manual):
                raise InputError(
                    "auto is True, but coordinator, processes or process_id is set; "
                    "auto alone, or those three, are needed"
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
