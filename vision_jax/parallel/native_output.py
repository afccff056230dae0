"""What C++ prints in one of several processes, less the noise; and who was lost, in one line."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import TextIO


class NativeOutput:
    """A small process through which pass the lines that C++ prints.

    It drops Gloo's greetings and the trace of JAX, which aborts a process whose peers are lost. An
    abort runs no Python code: if this process dies without `expect_end`, the small one says who was
    lost and how to resume. What Python prints does not pass through it.

    Args:
        kept: what a rerun resumes from.
    """

    def __init__(self, kept: str) -> None:
        self._kept = kept

    def __enter__(self) -> "NativeOutput":
        # Notes go through a file: C++ prints a line in pieces, and a note in the pipe splits it.
        self._notes = tempfile.TemporaryFile(buffering=0)
        # In its own session, so that Ctrl-C does not end it first.
        self._filter = subprocess.Popen(
            [sys.executable, "-I", "-c", _FILTER, self._kept, str(self._notes.fileno())],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[self._notes.fileno()],
        )
        self._old = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (self._divert(number) for number in (1, 2))
        return self

    def __exit__(self, *_: object) -> None:
        self.expect_end()
        for number, new in ((1, sys.stdout), (2, sys.stderr)):
            new.flush()
            os.dup2(new.fileno(), number)
            new.close()
        sys.stdout, sys.stderr = self._old
        self._filter.communicate()
        self._notes.close()

    def expect_end(self) -> None:
        """Make the small process end without a message."""
        self._notes.write(f"{_ENDED}\n".encode())

    def name_peers(self, hosts: Sequence[str]) -> None:
        """Say on which host each process is."""
        self._notes.write("".join(f"{i} {host}\n" for i, host in enumerate(hosts)).encode())

    def _divert(self, number: int) -> TextIO:
        """Send a descriptor through the small process, and open what it was."""
        old = self._old[number - 1]
        old.flush()
        kept = os.dup(number)
        assert self._filter.stdin is not None
        os.dup2(self._filter.stdin.fileno(), number)
        return os.fdopen(kept, "w", buffering=1, encoding=old.encoding, errors=old.errors)


_ENDED = "ended"
# JAX lists the numbers of lost processes on lines of their own, after one that ends in
# "heartbeats):"; without process 0, which coordinates, nothing can be sent.
_NOISE = r"\[Gloo\]|=== Source Location|external/xla|Additional GRPC error|:[A-Z]+:"
# Gloo greets from several threads at once, so a piece of its line may stand on its own.
_NOISE += r"|[\d ]*(is connected to|peer ranks|Expected number of connected|$)"
_FILTER = f"""
import os, re, sys
aborted = listing = False
lost = []
for raw in sys.stdin.buffer:
    line = raw.decode(errors="replace").rstrip()
    if listing and re.fullmatch(r"[\\d, ]+", line):
        lost += map(int, re.findall(r"\\d+", line))
        continue
    if listing and not aborted:
        listing = line.startswith("===") or not line.endswith("='']")
        continue
    fatal = re.match(r"F\\d{{4}} .*distributed service", line)
    if fatal or re.match(r"[EW]\\d{{4}} .*(coordination|preemption_sync)", line):
        listing = line.endswith("heartbeats):")
        aborted = aborted or bool(fatal)
        if fatal and "Failed to send RPC" in line:
            lost.append(0)
        continue
    if line and not aborted and not re.match({_NOISE!r}, line):
        sys.stderr.buffer.write(raw)
        sys.stderr.flush()
notes = int(sys.argv[2])
os.lseek(notes, 0, os.SEEK_SET)
hosts = dict(line.rstrip().partition(" ")[::2] for line in open(notes, errors="replace"))
if {_ENDED!r} not in hosts:
    numbers = map(str, sorted(set(lost)))
    names = [f"{{n}} on {{hosts[n]}}" if n in hosts else n for n in numbers]
    told = "another process cannot be reached" if aborted else "this process was killed or failed"
    if len(names) == 1:
        told = f"process {{names[0]}} was lost"
    elif names:
        told = "processes " + ", ".join(names) + " were lost"
    again = "rerun the same command in every process to resume from " + sys.argv[1]
    clear = "\\r\\033[K" if sys.stderr.isatty() else "\\n"  # a progress bar
    print(f"{{clear}}vision-jax: {{told}}; {{again}}", file=sys.stderr)
"""
