"""Cross-validation: a run for each part of the training images, measured on that part."""

import dataclasses
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vision_jax.config import TrainConfig
from vision_jax.data.folds import FoldedData
from vision_jax.errors import InputError
from vision_jax.files import json_text, write_text
from vision_jax.parallel.processes import first_alone
from vision_jax.run.data import located, open_config_data
from vision_jax.run.run import load_run
from vision_jax.run.train import train

FILE = "folds.json"


class Spread(NamedTuple):
    """A metric over the folds.

    Attributes:
        mean: the mean.
        deviation: the sample standard deviation, of K - 1 degrees of freedom.
        values: the metric of each fold.
    """

    mean: float
    deviation: float
    values: tuple[float, ...]


def train_folds(
    config: TrainConfig,
    workdir: str | Path,
    folds: int,
    *,
    extend: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    progress: bool = True,
) -> dict[str, Spread] | None:
    """Train a config once for each part of its training split, held out in turn, or resume.

    Each run is in `WORKDIR/fold_1` and so on, and is one as any other. A tenth of what it trains on
    chooses its best checkpoint, which is measured on the held-out part: `evaluate` measures the
    same. The data set's own test split is left untouched.

    Args:
        config: what to train.
        workdir: folder of the runs; made if it is not there.
        folds: number of parts K, at least 2 and at most the images of the smallest class.
        extend: see `train`.
        should_stop: see `train`.
        progress: see `train`.

    Returns:
        Each metric of the runs' evaluations over the folds, which `WORKDIR/folds.json` holds too;
        None if `should_stop` ended it.

    Raises:
        InputError: `folds` is out of range, or see `train`.
    """
    workdir = Path(workdir)
    first_alone(partial(_check, config, workdir, folds))
    measured = list[dict[str, float]]()
    for number in range(1, folds + 1):
        if progress:
            print(f"fold {number} of {folds}")
        data = dataclasses.replace(config.data, fold=(number, folds))
        result = train(
            dataclasses.replace(config, data=data),
            workdir / f"fold_{number}",
            extend=extend,
            should_stop=should_stop,
            progress=progress,
        )
        if not result.finished:
            return None
        run = load_run(workdir / f"fold_{number}")
        metrics = run.evaluate()
        measured.append({k: v for k, v in metrics.items() if isinstance(v, float)})
    spreads = {name: _spread([row[name] for row in measured]) for name in measured[0]}
    if run.parallel.is_first:
        write_text(workdir / FILE, json_text(_record(config, folds, spreads)))
    return spreads


def _spread(values: list[float]) -> Spread:
    if not all(map(math.isfinite, values)):
        return Spread(math.nan, math.nan, tuple(values))
    return Spread(statistics.fmean(values), statistics.stdev(values), tuple(values))


def _record(config: TrainConfig, folds: int, spreads: dict[str, Spread]) -> dict[str, Any]:
    metrics = {name: spread._asdict() for name, spread in spreads.items()}
    return {"folds": folds, "fold_seed": config.data.fold_seed, "metrics": metrics}


def _check(config: TrainConfig, workdir: Path, folds: int) -> None:
    """Refuse what cannot be divided, and a folder that is a run itself, before work begins."""
    if folds < 2:
        raise InputError(f"folds is {folds}; it must be at least 2")
    if config.data.fold is not None:
        raise InputError(f"data.fold is {config.data.fold}; it must be None with folds, for all")
    if (workdir / "config.json").exists():
        raise InputError(f"{workdir} holds a run; folds need a folder of their own")
    FoldedData.of(open_config_data(located(config).data), (1, folds), seed=config.data.fold_seed)
