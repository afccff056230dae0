"""Early stopping held against a plain count of epochs, and metrics that choose the best."""

import math
from contextlib import closing

import numpy as np
import optax
import pytest

from vision_jax.config import ModelConfig, TrainSelfSupervised
from vision_jax.data.info import DataInfo
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.models import CNN
from vision_jax.run.build import build_task
from vision_jax.tasks.classification import Classification
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.loop import fit
from vision_jax.training.stopping import EarlyStopping, Watch, check_judged, check_metric


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


def test_an_extension_that_adds_the_rule_knows_the_best_of_before():
    before = Watch(None, ("accuracy", "max"), 0, {})
    for epoch, value in ((1, 0.8), (2, 0.95), (3, 0.9)):
        before.see({"accuracy": value}, epoch)
    assert before.reason is None
    watch = Watch(EarlyStopping(2, since=3), ("accuracy", "max"), 3, before.record)
    for epoch in (4, 5):
        watch.see({"accuracy": 0.5 + epoch / 100}, epoch)
    assert "the best, 0.95, is that of epoch 2" in watch.reason
    other = Watch(EarlyStopping(1, since=3), ("loss", "min"), 3, before.record)
    other.see({"loss": 2.0}, 4)
    assert other.reason is None  # the best accuracy is no loss


def test_checkpoints_remember_the_best_without_a_rule(task, small_source, tmp_path):
    with closing(Checkpoints(tmp_path, metric="loss", mode="min", create=True)) as checkpoints:
        options = {"batch_size": 8, "validation": small_source, "progress": False}
        result = fit(task, small_source, epochs=1, checkpoints=checkpoints, **options)
        held = checkpoints.about(int(result.state.step))["early_stopping"]
    assert held["best"] == pytest.approx(result.history[0]["validation/loss"])
    assert (held["metric"], held["epoch"]) == ("loss", 1)


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


def test_a_search_that_tells_the_best_needs_one_label_for_each_image(small_source):
    config = TrainSelfSupervised(
        model=ModelConfig("cnn", {"stages": [4], "hidden": 4}), best_by="map@r"
    )
    task = build_task(config, DataInfo((8, 8, 1), None, 50, 5))
    check_judged(task, small_source, "best_by")
    images = np.stack([row["image"] for row in small_source.read(range(8))])
    unlabelled = ArraySource.from_arrays(images, None)
    with pytest.raises(InputError, match="no single label for each image; early_stopping needs"):
        fit(
            task,
            small_source,
            epochs=1,
            batch_size=8,
            validation=unlabelled,
            early_stopping=EarlyStopping(1, metric="map@r"),
        )


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
