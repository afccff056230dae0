"""Time on a device: contenders in turns, sections with a budget, and figures kept as they come."""

import json
import math
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Repeat = Callable[[int], object]
"""Runs a step that many times, one after the other, and waits for the last."""


NO_MEMORY = "it does not fit in the device's memory"


class Section:
    """One part of the report.

    Args:
        name: its name.
        seconds: its budget; what it begins after that is left out.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.left_out: list[dict[str, str]] = []
        self._begin = time.perf_counter()

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._begin

    @property
    def left(self) -> float:
        """Seconds of its budget that are left."""
        return self.seconds - self.spent

    def note(self, text: str) -> None:
        """Keep a line for the report, and print it."""
        self.notes.append(text)
        print(f"  {text}", file=sys.stderr, flush=True)

    def leave_out(self, what: str, why: str) -> None:
        """Keep for the report that something is not measured, and why; print it."""
        self.left_out.append({"section": self.name, "what": what, "why": why})
        print(f"  {what} left out: {why}", file=sys.stderr, flush=True)

    def has_time(self, what: str, needed: float = 0.0) -> bool:
        """Say whether the budget allows what takes that many seconds; leave it out if not."""
        if self.left > needed:
            return True
        enough = f"; it takes about {needed:.0f} s" if needed >= 1 else ""
        why = f"{max(self.left, 0):.0f} s of {max(self.seconds, 0):.0f} s are left{enough}"
        self.leave_out(what, why)
        return False

    def attempt(
        self, name: str, function: Callable[..., Any], *arguments: Any, needed: float = 0.0
    ) -> Any:
        """Call a function unless time is up; None if that, or memory, does not suffice."""
        if not self.has_time(name, needed):
            return None
        try:
            return function(*arguments)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.leave_out(name, NO_MEMORY)
            return None


def out_of_memory(error: Exception) -> bool:
    """Say whether an exception of JAX or PyTorch means that memory did not suffice."""
    text = str(error).lower()
    return "resource_exhausted" in text or "out of memory" in text


def in_turns(
    contenders: dict[str, Repeat], *, rounds: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Time contenders that take turns, so that a device that slows down slows all of them.

    Args:
        contenders: what is timed, compiled already.
        rounds: turns of each.
        seconds: of a turn.

    Returns:
        For each the median seconds of a step, and the fastest and slowest turn's.
    """
    counts = {}
    for name, repeat in contenders.items():
        repeat(2)
        begin = time.perf_counter()
        repeat(2)
        counts[name] = max(1, math.ceil(seconds / ((time.perf_counter() - begin) / 2)))
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, repeat in contenders.items():
            begin = time.perf_counter()
            repeat(counts[name])
            turns[name].append((time.perf_counter() - begin) / counts[name])
    return {
        name: {"seconds": statistics.median(some), "least": min(some), "most": max(some)}
        for name, some in turns.items()
    }


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Call a function; return what it returns and the seconds that it took."""
    begin = time.perf_counter()
    result = function()
    return result, time.perf_counter() - begin


class Report:
    """Figures of all sections, written after each.

    Args:
        about: the device and the versions.
        path: the JSON file, if any.
    """

    def __init__(self, about: dict[str, Any], path: Path | None) -> None:
        self.content: dict[str, Any] = {**about, "sections": {}, "left_out": []}
        self._path = path
        self._begin = time.perf_counter()

    @property
    def failed(self) -> list[str]:
        """The sections that failed."""
        sections = self.content["sections"]
        return [name for name, part in sections.items() if part["status"] == "failed"]

    def run(self, name: str, end: float, function: Callable[[Section], None]) -> None:
        """Run a section; one that fails is reported and keeps the rows it has.

        Args:
            name: its name.
            end: seconds from the report's begin after which it begins nothing more.
            function: measures.
        """
        section = Section(name, end - (time.perf_counter() - self._begin))
        print(f"{name}: up to {max(section.left, 0):.0f} s", file=sys.stderr, flush=True)
        status, error = "done", None
        if section.has_time("everything"):
            try:
                function(section)
            except Exception as caught:
                traceback.print_exc()
                status, error = "failed", f"{type(caught).__name__}: {caught}"[:2000]
        else:
            status = "skipped"
        self.content["sections"][name] = {
            "status": status,
            "error": error,
            "seconds": round(section.spent, 2),
            "notes": section.notes,
            "rows": section.rows,
        }
        self.content["left_out"] += section.left_out
        self.write()

    def write(self) -> None:
        """Write everything so far."""
        self.content["seconds"] = round(time.perf_counter() - self._begin, 1)
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_suffix(".part")
            partial.write_text(json.dumps(self.content, indent=1) + "\n")
            partial.replace(self._path)
