"""Contenders that take turns, each in a process of its own, so that one runs at a time."""

import json
import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any


def answer(**values: Any) -> None:
    """Tells the run that times this process what it measured."""
    print("RESULT " + json.dumps(values), flush=True)


class Worker:
    """A contender's process, seen from the run that times it.

    Args:
        python: the interpreter.
        script: what it runs. It calls `answer` once it is ready, and once after each line on its
            standard input.
        arguments: of the script.
        environment: variables beside this process's own.
        held: whether it and its children stand still between turns, so that nothing is read ahead
            while another contender has its turn.
    """

    def __init__(
        self,
        python: str,
        script: str,
        arguments: Sequence[str],
        environment: dict[str, str],
        *,
        held: bool = False,
    ) -> None:
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  open as long as the process
        self.process = subprocess.Popen(
            [python, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
            start_new_session=held,
        )
        self.held = held
        self.turns: list[dict[str, float]] = []
        self.first = self._read()

    def turn(self) -> None:
        """Has it take one turn, and keeps what it answers."""
        assert self.process.stdin is not None
        self._signal(signal.SIGCONT)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.turns.append(self._read())

    def median(self, key: str) -> float:
        """Return the median over all turns."""
        return statistics.median(turn[key] for turn in self.turns)

    def close(self) -> None:
        """End the process."""
        self._signal(signal.SIGCONT)
        self.process.communicate()

    def _signal(self, number: signal.Signals) -> None:
        if self.held:
            os.killpg(self.process.pid, number)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("RESULT "):
                self._signal(signal.SIGSTOP)
                return json.loads(line.removeprefix("RESULT "))
        code = self.process.wait()
        self.said.seek(0)
        last = self.said.read().strip().rpartition("\n")[2]
        raise RuntimeError(f"its process ended with {code}: {last}")
