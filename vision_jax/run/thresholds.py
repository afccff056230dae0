"""The probability from which each label counts, kept in a run's folder."""

import json
import warnings

import numpy as np
from jaxtyping import Float

from vision_jax.errors import DataWarning, InputError
from vision_jax.files import json_text, reading, write_text
from vision_jax.run.run import Run

FILE = "thresholds.json"
_DEFAULT = 0.5


def write_thresholds(run: Run, thresholds: Float[np.ndarray, " labels"]) -> None:
    """Keep the thresholds of a run's labels in its folder, as `thresholds.json`."""
    names = run.info.label_names or ()
    content = {
        "encoder": run.identity,
        "thresholds": dict(zip(names, thresholds.tolist(), strict=True)),
    }
    write_text(run.workdir / FILE, json_text(content))


def read_thresholds(run: Run) -> Float[np.ndarray, " labels"]:
    """Return the probability from which each label of a run counts.

    Returns:
        (labels,) in [0, 1]: those that `write_thresholds` kept, or else 0.5 each. Kept ones of
        another checkpoint are not used; a `DataWarning` says so.

    Raises:
        InputError: the file is damaged.
    """
    names, path = run.info.label_names or (), run.workdir / FILE
    default = np.full(len(names), _DEFAULT)
    if not path.exists():
        return default
    with reading(path, "thresholds of labels are needed") as file:
        content = file.read()
    try:
        kept = json.loads(content)
        encoder = kept["encoder"]
        values = np.array([kept["thresholds"][name] for name in names], np.float64)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("a threshold is outside of [0, 1]")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = f"is damaged ({error!r}); remove it, or choose the thresholds again"
        raise InputError(f"{path} {what}") from error
    if encoder != run.identity:
        what = f"is of another checkpoint; {_DEFAULT} is used until thresholds are chosen again"
        warnings.warn(DataWarning(f"{path} {what}"), stacklevel=2)
        return default
    return values
