"""The temperature of a run's probabilities, in a file of its folder."""

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path

from vision_jax.errors import DataWarning, InputError
from vision_jax.files import json_text, reading, write_text

FILE = "calibration.json"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A temperature, the weights it belongs to, and what it was fitted on.

    Attributes:
        temperature: what logits are divided by; above 1 makes probabilities less sure.
        step: the checkpoint's step.
        identity: the checkpoint's `Run.identity`.
        data: name of the data.
        split: the images it was fitted on, in tfds's slicing syntax.
        images: how many those are.
        before: metrics on them without the temperature, see `evaluation.reliability.Reliability`.
        after: the same with it.
    """

    temperature: float
    step: int
    identity: str
    data: str
    split: str
    images: int
    before: dict[str, float]
    after: dict[str, float]

    def write(self, workdir: Path) -> Path:
        """Write it into a run's folder, in place of an older one, and return its path."""
        path = workdir / FILE
        write_text(path, json_text(dataclasses.asdict(self)))
        return path


def read_calibration(workdir: Path, step: int, identity: Callable[[], str]) -> Calibration | None:
    """Read the calibration of a checkpoint.

    Args:
        workdir: the run's folder.
        step: the checkpoint's step.
        identity: returns the checkpoint's `Run.identity`, which takes a while.

    Returns:
        The calibration; None if there is none, or, with a warning, one of other weights.

    Raises:
        InputError: the file is damaged.
    """
    path = workdir / FILE
    if not path.exists():
        return None
    import cattrs  # only for a run that is calibrated

    with reading(path, "a calibration is needed") as file:
        content = file.read()
    try:
        found = cattrs.Converter(forbid_extra_keys=True).structure(json.loads(content), Calibration)
    except (ValueError, KeyError, TypeError, AttributeError, cattrs.BaseValidationError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}); fit it again or remove it"
        ) from error
    if not 0 < found.temperature < float("inf"):
        raise InputError(
            f"{path} has temperature {found.temperature}; it must be above 0 and finite"
        )
    if found.step != step or found.identity != identity():
        warnings.warn(
            f"{path} was fitted to the weights of step {found.step}; the probabilities of step "
            f"{step} are not calibrated",
            DataWarning,
            stacklevel=2,
        )
        return None
    return found
