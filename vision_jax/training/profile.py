"""Trace some steps of a run for TensorBoard and Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax

from vision_jax.errors import InputError


def parse_steps(text: str) -> range:
    """Parse `START:STOP`.

    Args:
        text: two step numbers, counted from 0; `STOP` is exclusive.

    Raises:
        InputError: `text` has another form, or the range is empty.
    """
    start, colon, stop = text.partition(":")
    steps = range(0)
    if colon and start.isdecimal() and stop.isdecimal():
        steps = range(int(start), int(stop))
    if not steps:
        raise InputError(f"profile is {text!r}; START:STOP is needed, 0 <= START < STOP")
    return steps


class Profile:
    """Trace some steps of a run into `FOLDER/plugins/profile`, where TensorBoard looks.

    Args:
        steps: the steps to trace; a run that resumes within them traces the rest.
        folder: the run's folder.
    """

    def __init__(self, steps: range, folder: Path) -> None:
        self._steps, self._folder, self._running = steps, folder, False

    def before(self, step: int, wait: Callable[[], None]) -> None:
        """Start or stop the trace before the next step, if it is the first or past the last.

        Args:
            step: steps done.
            wait: waits for the dispatched steps, so that a trace holds whole steps.
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
        """Write the trace, if one is running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()


def open_profile(steps: range | None, folder: Path, last: int) -> Profile | None:
    """Make the profile of some steps of a run.

    Args:
        steps: the steps to trace; None for no profile.
        folder: the run's folder.
        last: number of steps in the run.

    Returns:
        The profile; None without steps.

    Raises:
        InputError: the run does not have these steps.
    """
    if steps is None:
        return None
    if not 0 <= steps.start < steps.stop <= last:
        raise InputError(
            f"profile is {steps.start}:{steps.stop}; START:STOP with 0 <= START < STOP <= {last}, "
            "the run's last step, is needed"
        )
    return Profile(steps, folder)
