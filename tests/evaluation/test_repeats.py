import numpy as np
import pytest
from scipy import stats

from vision_jax.errors import InputError
from vision_jax.evaluation.intervals import paired_test
from vision_jax.evaluation.repeats import (
    compare_over_splits,
    mean_over_splits,
    paired_student,
    student_interval,
)
from vision_jax.evaluation.retrieval import measure_search

RNG = np.random.default_rng(0)


def test_students_interval_and_test_are_scipys():
    first, second = RNG.normal(0.7, 0.1, 5), RNG.normal(0.6, 0.1, 5)
    expected = stats.ttest_1samp(first, 0).confidence_interval(0.9)
    assert student_interval(first, level=0.9) == pytest.approx((first.mean(), *expected, 5))
    test = stats.ttest_rel(first, second)
    found = paired_student(first, second)
    apart = test.confidence_interval(0.95)
    assert found == pytest.approx((np.mean(first - second), *apart, test.pvalue, 5))
    assert paired_student(first, first) == (0, 0, 0, 1, 5)


def test_the_interval_holds_the_true_mean_of_few_values_as_often_as_it_says():
    held = [
        interval.low <= 0.3 <= interval.high
        for seed in range(500)
        for interval in [student_interval(np.random.default_rng(seed).normal(0.3, 0.1, 3))]
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def searches(noise, splits=3):
    """Searches of three classes each, among forty images that all splits number alike."""
    found = []
    for split in range(splits):
        random = np.random.default_rng(split)
        labels = random.permutation(np.arange(40) % 3)
        vectors = np.eye(3)[labels] + noise * random.normal(size=(40, 3))
        found.append(measure_search(vectors, labels, groups=np.arange(40), samples=100))
    return found


def test_splits_are_compared_by_queries_and_by_means():
    better, worse = searches(0.5), searches(0.8)
    means = [np.array([one.metrics["map@r"].mean for one in each]) for each in (better, worse)]
    assert mean_over_splits(better)["map@r"] == student_interval(means[0])
    found = compare_over_splits(better, worse, samples=500)["map@r"]
    assert found.splits == paired_student(*means)
    values = [
        np.concatenate([one.found.values["map@r"] for one in each]) for each in (better, worse)
    ]
    images = np.tile(np.arange(40), 3)
    assert found.queries == paired_test(*values, groups=images, samples=500)
    assert found.queries.mean == pytest.approx(found.splits.mean)
    assert 0 < found.queries.low < found.queries.mean


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: student_interval(np.ones(1)), r"values is \[1.0\]; two finite"),
        (lambda: student_interval(np.array([1, np.nan])), "two finite numbers"),
        (lambda: student_interval(np.ones(3), level=95.0), "level is 95"),
        (lambda: paired_student(np.ones(3), np.ones(2)), "first has 3 values and second 2"),
        (lambda: compare_over_splits([], []), "first has 0 splits and second 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
