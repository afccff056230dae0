import itertools

import numpy as np
import pytest
from scipy import stats

from vision_jax.errors import InputError
from vision_jax.evaluation.intervals import bootstrap_interval, paired_test

RNG = np.random.default_rng(0)


def test_interval_is_scipys():
    values = RNG.exponential(size=80)
    found = bootstrap_interval(values, samples=20_000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.01)
    assert found.counted == 80


def test_interval_holds_the_true_mean_as_often_as_it_says():
    held = [
        interval.low <= 0.3 <= interval.high
        for seed in range(300)
        for interval in [
            bootstrap_interval(
                (np.random.default_rng(seed).random(200) < 0.3) * 1.0, level=0.9, samples=400
            )
        ]
    ]
    assert np.mean(held) == pytest.approx(0.9, abs=0.05)


def test_groups_are_drawn_whole():
    """Copies of a value teach nothing: the interval is that of the values without them."""
    values = RNG.random(60)
    single = bootstrap_interval(values, seed=3)
    copies = bootstrap_interval(np.repeat(values, 4), groups=np.repeat(np.arange(60), 4), seed=3)
    assert copies[:3] == pytest.approx(single[:3])
    assert copies.counted == 240
    narrow = bootstrap_interval(np.repeat(values, 4))
    assert narrow.high - narrow.low < 0.6 * (single.high - single.low)


def test_values_that_are_nan_do_not_count():
    values = RNG.random(50)
    holes = np.insert(values, [0, 20], np.nan)
    assert bootstrap_interval(holes) == bootstrap_interval(values)
    other = RNG.random(52)
    kept = np.isfinite(holes)
    assert paired_test(holes, other) == paired_test(values, other[kept])


def test_p_value_is_that_of_all_exchanges():
    first, second = RNG.normal(0.4, 1, 12), RNG.normal(0, 1, 12)
    apart = first - second
    signs = np.array(list(itertools.product([-1, 1], repeat=12)))
    expected = np.mean(np.abs(signs @ apart) >= abs(apart.sum()) - 1e-9)
    found = paired_test(first, second, samples=40_000)
    assert found.p_value == pytest.approx(expected, abs=0.01)
    assert found.mean == pytest.approx(apart.mean())
    assert found[:3] == bootstrap_interval(apart, samples=40_000)[:3]
    assert paired_test(second, first).mean == -found.mean


def test_what_is_alike_does_not_differ():
    values = (RNG.random(100) < 0.5) * 1.0
    assert paired_test(values, values) == (0, 0, 0, 1, 100)
    rare = [
        paired_test(*np.random.default_rng(seed).normal(size=(2, 30)), samples=199).p_value <= 0.05
        for seed in range(400)
    ]
    assert np.mean(rare) == pytest.approx(0.05, abs=0.03)


def test_draws_are_those_of_the_seed_whatever_their_parts(monkeypatch):
    values, other = RNG.random((2, 40))
    groups = np.arange(40) // 2
    whole = bootstrap_interval(values), paired_test(values, other, groups=groups, seed=5)
    monkeypatch.setattr("vision_jax.evaluation.intervals._DRAWS", 1000)
    assert (bootstrap_interval(values), paired_test(values, other, groups=groups, seed=5)) == whole
    assert bootstrap_interval(values, seed=1) != whole[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval(np.full(3, np.nan)), "none of 3 values is a finite number"),
        (lambda: bootstrap_interval(np.ones(3), level=95.0), r"level is 95.0; .* \(0, 1\)"),
        (lambda: bootstrap_interval(np.ones(3), samples=0), "samples is 0"),
        (lambda: bootstrap_interval(np.ones(3), groups=np.ones(2)), "groups has 2 entries for 3"),
        (lambda: paired_test(np.ones(3), np.ones(2)), "first has 3 values and second 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
