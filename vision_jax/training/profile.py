"""A profile of some steps, for TensorBoard and Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax

from vision_jax.errors import InputError


def parse_steps(text: str) -> range:
    """Reads `START:STOP`.

    Args:
        text: two step numbers, counted from 0; the second is the first that is left out.

    Raises:
        InputError: it is something else, or no step lies between them.
    """
    start, colon, stop = text.partition(":")
    steps = range(0)
    if colon and start.isdecimal() and stop.isdecimal():
        steps = range(int(start), int(stop))
    if not steps:
        raise InputError(f"--profile is {text!r}; START:STOP is needed, 0 <= START < STOP")
    return steps


class Profile:
    """Traces some of a run's steps into `FOLDER/plugins/profile`.

    Args:
        steps: those to trace; of a run that resumes among them, the rest.
        folder: the run's folder, where TensorBoard looks.
    """

    def __init__(self, steps: range, folder: Path) -> None:
        self._steps, self._folder, self._running = steps, folder, False

    def before(self, step: int, wait: Callable[[], None]) -> None:
        """Starts or stops the trace where a step is about to begin.

        Args:
            step: steps done.
            wait: waits for the steps under way, so that they fall on the right side.
        """
        if (step in self._steps) == self._running:
            return
        wait()
        if self._running:
            self.close()
        else:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        """Writes the trace, if one is under way."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()


def open_profile(steps: range | None, folder: Path, last: int) -> Profile | None:
    """The profile of some of a run's steps; None without any.

    Args:
        steps: those to trace.
        folder: the run's folder.
        last: how many steps the run has.

    Raises:
        InputError: the run does not have these steps.
    """
    if steps is None:
        return None
    if not 0 <= steps.start < steps.stop <= last:
        raise InputError(
            f"the steps to profile are {steps.start}:{steps.stop}; "
            f"START:STOP with 0 <= START < STOP <= {last}, the run's last step, is needed"
        )
    return Profile(steps, folder)
