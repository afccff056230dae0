"""Early stopping held against a plain count of epochs, and metrics that choose the best."""

import math

import numpy as np
import optax
import pytest

from vision_jax.errors import InputError
from vision_jax.models import CNN
from vision_jax.tasks.classification import Classification
from vision_jax.training.loop import fit
from vision_jax.training.stopping import EarlyStopping, Watch, check_metric


def stops_after(values, patience, delta, sign):
    """How many epochs run, by the definition."""
    for end in range(1, len(values) + 1):
        best, last = -math.inf, 0
        for epoch, value in enumerate(values[:end], start=1):
            if math.isfinite(value) and sign * value > best + (delta if best > -math.inf else 0):
                best, last = sign * value, epoch
        if end - last >= patience:
            return end
    return len(values)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("delta", [0.0, 0.3])
def test_it_stops_as_a_plain_count_does_wherever_it_is_resumed(mode, patience, delta):
    rule = EarlyStopping(patience, delta)
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=30)
        values[seed % 7] = math.nan
        record, done = {}, 0
        for epoch, value in enumerate(values.tolist(), start=1):
            # Made anew for each epoch, as if the run were resumed there.
            watch = Watch(rule, ("metric", mode), epoch - 1, record)
            watch.see({"metric": value}, epoch)
            record, done = watch.record, epoch
            if watch.reason:
                break
        assert done == stops_after(values, patience, delta, 1 if mode == "max" else -1)


def test_an_extension_begins_to_count_anew_but_keeps_the_best():
    held = {"early_stopping": {"best": 0.9, "epoch": 4, "stale": 3}}
    assert Watch(EarlyStopping(3), ("accuracy", "max"), 7, held).reason
    watch = Watch(EarlyStopping(3, since=7), ("accuracy", "max"), 7, held)
    for epoch, value in ((8, 0.5), (9, 0.89), (10, 0.9)):
        assert watch.reason is None
        watch.see({"accuracy": value}, epoch)
    assert watch.reason == (
        "after epoch 10: validation/accuracy has not improved for 3 epochs; the best, 0.9, is that "
        "of epoch 4"
    )


@pytest.fixture(scope="module")
def task():
    model = CNN(num_classes=10, stages=(4,), hidden=8, padding="SAME")
    return Classification(model, optax.sgd(0.0))


def test_fit_stops_early_says_why_and_goes_on_from_its_state(task, small_source):
    options = {"batch_size": 8, "validation": small_source, "progress": False}
    result = fit(task, small_source, epochs=50, early_stopping=EarlyStopping(2), **options)
    assert len(result.history) == 3  # nothing is learned at a rate of 0
    assert result.finished
    assert "validation/accuracy has not improved for 2 epochs" in result.early_stop
    more = fit(task, small_source, epochs=4, state=result.state, **options)
    assert [row["epoch"] for row in more.history] == [4]
    with pytest.raises(InputError, match="early_stopping needs validation"):
        fit(task, small_source, epochs=1, batch_size=8, early_stopping=EarlyStopping(2))


def test_a_metric_that_is_not_reported_lists_those_that_are(task):
    check_metric(task, "loss", (8, 8, 1), "best_by")
    for name in ("f2", "confusion", "mean_squared_error"):
        with pytest.raises(InputError, match=f"best_by is '{name}'; it must be one of loss, acc"):
            check_metric(task, name, (8, 8, 1), "best_by")


def test_values_out_of_range_are_refused():
    for options, message in [
        ({"patience": 0}, "early_stopping is 0; it must be at least 1"),
        ({"patience": 1, "min_delta": -1.0}, "min_delta is -1.0"),
        ({"patience": 1, "min_delta": math.nan}, "min_delta is nan"),
    ]:
        with pytest.raises(InputError, match=message):
            EarlyStopping(**options)


def test_a_task_without_a_metric_that_tells_the_best_cannot_stop_early():
    with pytest.raises(InputError, match="early_stopping needs a metric"):
        Watch(EarlyStopping(1), None, 0, {})
