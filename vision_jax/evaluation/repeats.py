"""How sure a mean over repetitions is: seeds, or splits of the classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from vision_jax.errors import InputError
from vision_jax.evaluation.intervals import LEVEL, SAMPLES, Difference, Interval, paired_test
from vision_jax.evaluation.retrieval import Search


class SplitDifference(NamedTuple):
    """How much two embeddings differ over several splits of the classes.

    Attributes:
        queries: other queries of these classes: the splits stay, queries are drawn anew; see
            `paired_test`.
        splits: other classes: the splits' means are drawn from a normal distribution; see
            `paired_student`.
    """

    queries: Difference
    splits: Difference


def student_interval(values: Float[np.ndarray, " values"], *, level: float = LEVEL) -> Interval:
    """Compute Student's confidence interval of a mean, for few values such as those of seeds.

    The bootstrap draws so few values anew that its interval is too narrow.

    Args:
        values: (N,) finite, N at least 2; taken to be normal.
        level: how often the interval holds the true mean, in (0, 1).

    Raises:
        InputError: there are fewer than two values, one is NaN or infinite, or `level` is out of
            range.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level}; it must be in (0, 1)")
    if len(values) < 2 or not np.isfinite(values).all():
        raise InputError(f"values is {values.tolist()}; two finite numbers or more are needed")
    mean, count = float(values.mean()), len(values)
    reach = float(stats.t.ppf((1 + level) / 2, count - 1) * values.std(ddof=1) / count**0.5)
    return Interval(mean, mean - reach, mean + reach, count)


def paired_student(
    first: Float[np.ndarray, " values"],
    second: Float[np.ndarray, " others"],
    *,
    level: float = LEVEL,
) -> Difference:
    """Compare the means of two methods over the same repetitions by Student's paired test.

    Args:
        first: (N,) finite, N at least 2: one method's figure of each seed or split.
        second: (N,) those of the other.
        level: of the interval.

    Returns:
        The first's less the second's; the p-value is two-sided, and 1 if all are alike.

    Raises:
        InputError: the lengths differ, or as `student_interval`.
    """
    if len(first) != len(second):
        raise InputError(
            f"first has {len(first)} values and second {len(second)}; the same repetitions are "
            "needed"
        )
    mean, low, high, count = student_interval(first - second, level=level)
    error = float(np.std(first - second, ddof=1)) / count**0.5
    if not error:
        return Difference(mean, low, high, 1.0 if mean == 0 else 0.0, count)
    p_value = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return Difference(mean, low, high, p_value, count)


def mean_over_splits(searches: Sequence[Search]) -> dict[str, Interval]:
    """Average a search's metrics over splits of the classes.

    Args:
        searches: one of each split, two or more.

    Returns:
        For each metric the mean of the splits' means, with its interval for other classes; see
        `student_interval`.

    Raises:
        InputError: there are fewer than two.
    """
    names = searches[0].metrics if searches else {}
    return {name: student_interval(_means(searches, name)) for name in names}


def compare_over_splits(
    first: Sequence[Search],
    second: Sequence[Search],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, SplitDifference]:
    """Compare two embeddings over several splits of the classes.

    Args:
        first: the search of each split by one embedding, measured with `groups` that number the
            images alike in all splits, so that an image of two splits counts as one thing.
        second: by the other, for the same queries in the same order.
        samples: draws of the bootstrap and the permutation test.
        seed: of these draws.

    Returns:
        For each metric that both have, the first's less the second's.

    Raises:
        InputError: the numbers of splits or of queries differ, or there are fewer than two splits.
    """
    if len(first) != len(second) or len(first) < 2:
        raise InputError(
            f"first has {len(first)} splits and second {len(second)}; the same two or more are "
            "needed"
        )
    names = [name for name in first[0].metrics if name in second[0].metrics]
    compared = {}
    for name in names:
        queries = paired_test(
            *(np.concatenate([one.found.values[name] for one in each]) for each in (first, second)),
            groups=_groups(first),
            samples=samples,
            seed=seed,
        )
        splits = paired_student(_means(first, name), _means(second, name))
        compared[name] = SplitDifference(queries, splits)
    return compared


def _means(searches: Sequence[Search], name: str) -> Float[np.ndarray, " splits"]:
    return np.array([one.metrics[name].mean for one in searches])


def _groups(searches: Sequence[Search]) -> np.ndarray | None:
    """Join the queries' groups, or let each stand for itself."""
    groups = [one.groups for one in searches]
    if any(group is None for group in groups):
        return None
    return np.concatenate([group for group in groups if group is not None])
