"""How sure a mean is: bootstrap intervals, and a paired test between two lists of values."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from vision_jax.errors import InputError

Values = Float[np.ndarray, " values"]
Groups = Shaped[np.ndarray, " entries"]

SAMPLES = 10_000
LEVEL = 0.95
_DRAWS = 1 << 22  # numbers drawn at a time


class Interval(NamedTuple):
    """A mean and its confidence interval.

    Attributes:
        mean: of the values that count.
        low: lower end.
        high: upper end.
        counted: how many values count.
    """

    mean: float
    low: float
    high: float
    counted: int


class Difference(NamedTuple):
    """The mean of paired differences, its confidence interval and its significance.

    Attributes:
        mean: of the first values less the second, over the pairs that count.
        low: lower end.
        high: upper end.
        p_value: chance of a mean as far from 0 if the two were alike; in (0, 1].
        counted: how many pairs count.
    """

    mean: float
    low: float
    high: float
    p_value: float
    counted: int


def bootstrap_interval(
    values: Values,
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """Estimate the confidence interval of a mean by the percentile bootstrap.

    Efron and Tibshirani, "An introduction to the bootstrap", 1993, section 13.3.

    Args:
        values: (N,); those that are NaN do not count.
        groups: (N,) what each value belongs to. Values of a group depend on each other, as do those
            of two images of one thing, so whole groups are drawn. By default each is its own.
        level: how often the interval holds the true mean, in (0, 1).
        samples: how many times to draw, at least 1.
        seed: of the draws.

    Returns:
        The mean and its interval.

    Raises:
        InputError: no value counts, or an argument is out of range.
    """
    sums, counts = _grouped(values, groups, level, samples)
    means = np.concatenate(
        [
            sums[rows].sum(1) / counts[rows].sum(1)
            for rows in _drawn(np.random.default_rng(seed), len(sums), samples)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    count = int(counts.sum())
    return Interval(float(sums.sum() / count), float(low), float(high), count)


def paired_test(
    first: Values,
    second: Float[np.ndarray, " others"],
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Difference:
    """Test whether two lists of values differ on the same queries.

    The interval is the bootstrap's; the p-value is that of the two-sided permutation test, which
    exchanges the two values of random pairs (Smucker et al., "A comparison of statistical
    significance tests for information retrieval evaluation", 2007).

    Args:
        first: (N,) values, such as each query's precision by one embedding.
        second: (N,) values of the same queries by another. Pairs with a NaN do not count.
        groups: see `bootstrap_interval`; whole groups are exchanged.
        level: of the interval.
        samples: how many times to draw, at least 1.
        seed: of the draws.

    Returns:
        The difference; its p-value is at least 1 / (samples + 1).

    Raises:
        InputError: the lengths differ, no pair counts, or an argument is out of range.
    """
    if len(first) != len(second):
        raise InputError(
            f"first has {len(first)} values and second {len(second)}; the same queries are needed"
        )
    apart = first - second
    interval = bootstrap_interval(apart, groups=groups, level=level, samples=samples, seed=seed)
    sums, _ = _grouped(apart, groups, level, samples)
    # Rounding must not separate sums that are equal.
    far = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    random = np.random.default_rng([seed, 1])
    extreme = sum(
        int((np.abs(random.choice([-1.0, 1.0], (size, len(sums))) @ sums) >= far).sum())
        for size in _sizes(len(sums), samples)
    )
    p_value = (extreme + 1) / (samples + 1)
    return Difference(interval.mean, interval.low, interval.high, p_value, interval.counted)


def _grouped(
    values: Values, groups: Groups | None, level: float, samples: int
) -> tuple[Float[np.ndarray, " groups"], Int[np.ndarray, " groups"]]:
    """Sum and count the values of each group."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}; it must be in (0, 1)")
    if samples < 1:
        raise InputError(f"samples is {samples}; at least 1 is needed")
    if groups is not None and len(groups) != len(values):
        raise InputError(f"groups has {len(groups)} entries for {len(values)} values")
    kept = np.isfinite(values)
    if not kept.any():
        raise InputError(f"none of {len(values)} values is a finite number; at least 1 is needed")
    if groups is None:
        return values[kept].astype(np.float64), np.ones(kept.sum(), np.int64)
    places = np.unique(groups[kept], return_inverse=True)[1]
    return np.bincount(places, values[kept]), np.bincount(places).astype(np.int64)


def _drawn(
    random: np.random.Generator, count: int, samples: int
) -> Iterator[Int[np.ndarray, "samples count"]]:
    for size in _sizes(count, samples):
        yield random.integers(0, count, (size, count))


def _sizes(count: int, samples: int) -> Iterator[int]:
    """Divide the samples into parts that fit in memory."""
    size = max(1, _DRAWS // count)
    for start in range(0, samples, size):
        yield min(size, samples - start)
