"""Whether maps mean something: measures of them, compared with maps that know nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from vision_jax.errors import InputError
from vision_jax.evaluation.intervals import Interval, bootstrap_interval, paired_test
from vision_jax.explain.curves import (
    STEPS,
    Images,
    Maps,
    Score,
    check_maps,
    deletion,
    insertion,
)
from vision_jax.explain.road import FRACTIONS, road
from vision_jax.run.run import Run

MEASURES: dict[str, bool] = {"deletion": False, "insertion": True, "road": True, "pointing": True}
"""The measures by name, and whether more is better."""
BASELINES = ("random", "centre")
"""Maps that know nothing of the image, see `baseline_maps`."""
INSENSITIVE = 0.5
"""Rank correlation with the maps of a random network from which a method counts as insensitive."""
_LEVEL = 0.95
_CENTRE = 0.25  # standard deviation of the centre prior, as a share of each side

Masks = Bool[np.ndarray, "_ _ _"] | Integer[np.ndarray, "_ _ _"]
Values = Float[np.ndarray, " images"]


class Verdict(NamedTuple):
    """What became of a method on a network.

    Attributes:
        method: its name.
        means: the mean of each measure with its confidence interval.
        sensitivity: rank correlation of its maps with those of the network with random weights, on
            average; None if that was not tested.
        failures: in words, each test that it failed; empty for a method that can be trusted here.
    """

    method: str
    means: dict[str, Interval]
    sensitivity: float | None
    failures: tuple[str, ...]


def class_score(run: Run, targets: Int[np.ndarray, " images"]) -> Score:
    """Return the score that measures ask for: the probability of each original's target class.

    Args:
        run: a classifier.
        targets: (N,) class numbers of the originals.
    """

    def score(images: Images, rows: Int[np.ndarray, " images"]) -> Values:
        probabilities = run.predict(np.clip(images, 0, 1))
        chosen: np.ndarray = np.take_along_axis(probabilities, targets[rows][:, None], 1)[:, 0]
        return chosen

    return score


def pointing_game(maps: Maps, masks: Masks) -> Values:
    """Ask whether each map's highest pixel lies on the object.

    Zhang et al., "Top-down neural attention by excitation backprop", 2016, without their margin.

    Args:
        maps: (N, H, W).
        masks: (N, H, W) True, or any number but 0, on the object.

    Returns:
        (N,) 1 or 0; where several pixels are highest, the share of them on the object.

    Raises:
        InputError: the shapes differ, or a map holds NaN.
    """
    if maps.shape != masks.shape or np.isnan(maps).any():
        raise InputError(
            f"maps have shape {maps.shape} and {int(np.isnan(maps).sum())} NaN; shape "
            f"{masks.shape} and none are needed"
        )
    highest = maps == maps.max((1, 2), keepdims=True)
    return (highest & masks.astype(bool)).sum((1, 2)) / highest.sum((1, 2))


def baseline_maps(count: int, size: tuple[int, int], *, seed: int = 0) -> dict[str, Maps]:
    """Make maps that know nothing of the images.

    Args:
        count: how many.
        size: (height, width).
        seed: of the random ones.

    Returns:
        By the names of `BASELINES`, (count, height, width): uniform noise, and a Gaussian on the
        centre, which is hard to beat where photographers centre what they take.
    """
    rows, columns = (np.exp(-0.5 * (np.linspace(-0.5, 0.5, n) / _CENTRE) ** 2) for n in size)
    centre = np.broadcast_to(np.outer(rows, columns), (count, *size))
    return {"random": np.random.default_rng(seed).random((count, *size)), "centre": centre}


def measure_maps(
    score: Score,
    images: Images,
    maps: Maps,
    *,
    masks: Masks | None = None,
    baseline: str = "blur",
    steps: int = STEPS,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> dict[str, Values]:
    """Measure maps by deletion, insertion, ROAD and, where objects are known, the pointing game.

    Args:
        score: what the maps explain, such as `class_score`.
        images: (N, H, W, C) in [0, 1].
        maps: (N, H, W).
        masks: see `pointing_game`; None if that is not known.
        baseline: see `curves.deletion`.
        steps: see `curves.deletion`.
        fractions: see `road.road`.
        seed: see `curves.deletion` and `road.road`.

    Returns:
        (N,) values by the names of `MEASURES`.

    Raises:
        InputError: shapes or values do not fit.
    """
    check_maps(images, maps)
    options: dict[str, Any] = {"baseline": baseline, "steps": steps, "seed": seed}
    values = {
        "deletion": deletion(score, images, maps, **options).areas,
        "insertion": insertion(score, images, maps, **options).areas,
        "road": road(score, images, maps, fractions=fractions, seed=seed),
    }
    return values if masks is None else values | {"pointing": pointing_game(maps, masks)}


def judge(
    values: Mapping[str, Mapping[str, Values]],
    sensitivity: Mapping[str, Values] | None = None,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> dict[str, Verdict]:
    """Say which methods can be trusted on a network.

    A method fails by a measure unless it is better than both baselines there: a paired test whose
    95% interval lies above 0. It fails the randomisation test if its maps hardly change once all of
    the network's weights are random. One image shows nothing: with it a method fails by every
    measure.

    Args:
        values: (N,) of the same images by method and measure, as `measure_maps` returns them; the
            methods include `BASELINES`.
        sensitivity: (N,) by method, the rank correlation of each map with that of the network with
            random weights; see `randomization.randomization_test`. A method that is not there is
            not tested.
        samples: of the bootstrap and the permutation test.
        seed: of these.

    Returns:
        A verdict on each method that is no baseline.

    Raises:
        InputError: a baseline is missing.
    """
    if missing := [name for name in BASELINES if name not in values]:
        raise InputError(
            f"values lack {missing[0]}; they need the baselines {', '.join(BASELINES)}"
        )
    options: dict[str, Any] = {"level": _LEVEL, "samples": samples, "seed": seed}
    verdicts = {}
    for method, measured in values.items():
        if method in BASELINES:
            continue
        failures = [
            f"{measure}: {told}"
            for measure in measured
            if (told := _shortfall(values, method, measure, options))
        ]
        tested = (sensitivity or {}).get(method)
        alike = None if tested is None else float(np.mean(tested))
        if alike is not None and alike > INSENSITIVE:
            failures.append(
                f"randomisation: maps of the network with random weights have a rank correlation "
                f"of {alike:.2f} with its own"
            )
        means = {name: bootstrap_interval(rows, **options) for name, rows in measured.items()}
        verdicts[method] = Verdict(method, means, alike, tuple(failures))
    return verdicts


_NAMES = {"random": "a random map", "centre": "the centre prior"}


def _shortfall(
    values: Mapping[str, Mapping[str, Values]], method: str, measure: str, options: dict[str, Any]
) -> str | None:
    """Say which baselines a method does not beat by a measure; None if it beats them all."""
    sign = 1.0 if MEASURES[measure] else -1.0
    rows = values[method][measure]
    beaten_by = []
    for baseline in BASELINES:
        other = values[baseline][measure]
        found = paired_test(sign * rows, sign * other, **options)
        if found.counted < 2:  # the interval of one pair has no width
            return "measured on 1 image; at least 2 are needed"
        if found.low <= 0:
            beaten_by.append(f"{_NAMES[baseline]} ({rows.mean():.3f} against {other.mean():.3f})")
    return f"no better than {' and '.join(beaten_by)}" if beaten_by else None
