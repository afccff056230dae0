import math
import re
import subprocess
import sys
from contextlib import closing

import jax
import numpy as np
import optax
import pytest

from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.models import CNN
from vision_jax.tasks.classification import Classification
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.loop import TrainingDivergedError, fit
from vision_jax.training.profile import Profile, parse_steps

PER_EPOCH = 6


@pytest.fixture(scope="module")
def task():
    model = CNN(num_classes=10, stages=(4,), hidden=8, padding="SAME", dropout=0.3)
    return Classification(model, optax.adam(1e-2))


@pytest.fixture
def run(task, small_source):
    def go(folder=None, **options):
        arguments = {
            "epochs": 3,
            "validation": Loader(small_source, 8, train=False),
            "progress": False,
            **options,
        }
        train = Loader(small_source, 8, train=True)
        if folder is None:
            return fit(task, train, **arguments)
        with closing(
            Checkpoints(folder, metric="accuracy", mode="max", create=True)
        ) as checkpoints:
            return fit(task, train, checkpoints=checkpoints, **arguments)

    return go


def assert_same(a, b):
    def same(x, y):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)

    jax.tree.map(same, a, b)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [PER_EPOCH, PER_EPOCH + 2, 2 * PER_EPOCH - 1])
def test_a_stopped_run_goes_on_bit_for_bit(run, tmp_path, stop_at):
    whole = run()
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) == stop_at

    first = run(tmp_path, should_stop=should_stop)
    assert not first.finished
    assert int(first.state.step) == stop_at
    rest = run(tmp_path)
    assert rest.finished
    assert_same(rest.state, whole.state)
    assert first.history + rest.history == whole.history
    assert run(tmp_path).history == []  # nothing is left to do


@pytest.mark.slow
def test_a_state_goes_on_up_to_the_epochs_in_all(run):
    first, whole = run(epochs=1), run(epochs=3)
    rest = run(epochs=3, state=first.state)
    assert_same(rest.state, whole.state)
    assert first.history + rest.history == whole.history


def test_the_history_holds_each_epoch(run):
    logged = []
    result = run(log=lambda row, speeds: logged.append((row, speeds)))
    assert [row["step"] for row in result.history] == [6, 12, 18]
    assert [row for row, _ in logged] == result.history
    for _, speeds in logged:
        assert speeds["images_per_second"] > 0
        assert 0 <= speeds["data_wait"] <= 1
        assert 50 < speeds["host_memory"] < 1e6
    for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        assert all(math.isfinite(row[name]) for row in result.history)


def test_the_seed_decides_everything(run):
    a, b, other = run(seed=1), run(seed=1), run(seed=2)
    assert_same(a.state, b.state)
    assert a.history == b.history
    assert other.history != a.history


def test_divergence_stops_at_once_with_the_last_checkpoint_kept(task, small_source, tmp_path):
    wild = Classification(
        task.model,
        optax.sgd(
            optax.join_schedules(
                [optax.constant_schedule(0.01), optax.constant_schedule(1e20)], [PER_EPOCH]
            )
        ),
    )
    train = Loader(small_source, 8, train=True)
    with closing(Checkpoints(tmp_path, metric="accuracy", mode="max", create=True)) as checkpoints:
        with pytest.raises(
            TrainingDivergedError, match=r"step [78]; the checkpoint of step 6 is kept"
        ) as caught:
            fit(wild, train, epochs=3, checkpoints=checkpoints, progress=False)
        step = int(re.search(r"at step (\d+)", str(caught.value)).group(1))
        named = ", ".join(small_source.key(index) for index in train.indices(step - 1).tolist())
        assert str(caught.value).endswith(f"The step's images: {named}")
        assert checkpoints.find("last") == PER_EPOCH


@pytest.mark.parametrize("stops", [False, True])
def test_weights_that_are_not_finite_are_not_saved(task, small_source, tmp_path, stops):
    """The last step of an epoch, or before a stop, has no later loss to betray it."""
    schedule = optax.join_schedules(
        [optax.constant_schedule(0.01), optax.constant_schedule(np.nan)], [2 * PER_EPOCH - 1]
    )
    wild = Classification(task.model, optax.sgd(schedule))
    train, asked = Loader(small_source, 8, train=True), []

    def should_stop():
        asked.append(1)
        return stops and len(asked) == 2 * PER_EPOCH

    with closing(Checkpoints(tmp_path, metric="accuracy", mode="max", create=True)) as checkpoints:
        with pytest.raises(
            TrainingDivergedError,
            match="weight is NaN or infinite at step 12; the checkpoint of step 6",
        ):
            fit(
                wild,
                train,
                epochs=3,
                checkpoints=checkpoints,
                should_stop=should_stop,
                progress=False,
            )
        assert checkpoints.find("last") == PER_EPOCH


def test_the_state_is_shown_after_each_epoch(run):
    seen = []
    result = run(after_epoch=lambda state, epoch: seen.append((int(state.step), epoch)))
    assert seen == [(6, 1), (12, 2), (18, 3)]
    assert result.finished


def test_progress_shows_the_speed_the_time_left_and_each_epoch(run, capsys):
    run(progress=True)
    printed = capsys.readouterr()
    assert "epoch 3/3  train/accuracy" in printed.out
    assert "img/s" in printed.err
    assert "training on small" in printed.err


def test_a_large_batch_that_diverges_is_named_in_part(task, small_source):
    wild = Classification(task.model, optax.sgd(math.inf))
    with pytest.raises(TrainingDivergedError, match=r"small/[^,]*/\d+ and 4 more$") as caught:
        fit(wild, small_source, batch_size=16, epochs=1, progress=False)
    assert str(caught.value).count(", small/") == 11
    assert "no checkpoint was saved" in str(caught.value)


def test_a_source_is_trained_on_as_its_batches_are(task, small_source, run):
    result = fit(
        task, small_source, batch_size=8, epochs=3, validation=small_source, progress=False
    )
    whole = run()
    assert result.history == whole.history
    assert_same(result.state, whole.state)
    for size in (None, 0):
        with pytest.raises(InputError, match=f"batch_size is {size}; with a source"):
            fit(task, small_source, batch_size=size, epochs=1)


def test_some_steps_are_traced_and_nothing_changes(run, tmp_path):
    with closing(Profile(range(2, 5), tmp_path)) as profile:
        traced = run(profile=profile)
    assert traced.history == run().history
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))


@pytest.mark.parametrize("text", ["", "5", "5:5", "7:5", "-1:5", "a:b", "1:2:3"])
def test_steps_that_cannot_be_traced_are_named(text):
    with pytest.raises(InputError, match=f"profile is '{text}'; START:STOP is needed"):
        parse_steps(text)
    assert parse_steps("0:3") == range(3)


SCRIPT = """
import numpy as np, optax, vision_jax
from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource
from vision_jax.models import CNN
from vision_jax.tasks.classification import Classification

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 1), np.uint8)
    source = ArraySource.from_arrays(images, np.arange(64, dtype=np.int32) % 4)
    task = Classification(CNN(num_classes=4, stages=(4,), hidden=8), optax.adam(1e-3))
    train = Loader(source, 16, train=True, on_device_bytes=0, workers=1)
    result = vision_jax.fit(task, train, epochs=2, log=print, progress=False)
    assert len(result.history) == 2
    print("fitted")
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["script", "notebook"])
def test_fit_works_where_no_command_line_ran(way, tmp_path):
    """With reader processes, which a script and a notebook start differently."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    notebook = f"exec(compile({SCRIPT!r}, '<ipython-input-1>', 'exec'))"
    words = [str(path)] if way == "script" else ["-c", notebook]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "fitted"
    assert "'epoch': 2" in done.stdout


def test_images_without_what_the_task_needs_are_refused(digits):
    images, labels = digits
    task = Classification(CNN(num_classes=3, stages=(4,), padding="SAME"), optax.adam(1e-3))
    for given, message in (
        (None, "has no labels; Classification needs them"),
        (labels[:50], "has 10 classes; num_classes of the model is 3"),
    ):
        source = ArraySource.from_arrays(images[:50], given)
        with pytest.raises(InputError, match=message):
            fit(task, source, batch_size=8, epochs=1, progress=False)
    with pytest.raises(InputError, match=r"seed is -1; it must be in \[0, 2\*\*32\)"):
        fit(task, source, batch_size=8, epochs=1, seed=-1, progress=False)


def test_images_to_validate_on_need_the_classes_of_training(digits):
    images, labels = digits
    three = labels < 3
    images, labels = images[three][:60], labels[three][:60]
    task = Classification(CNN(num_classes=3, stages=(4,), padding="SAME"), optax.adam(1e-3))
    source = ArraySource.from_arrays(images, labels, label_names=list("abc"))

    def trained(labels, **options):
        validation = ArraySource.from_arrays(images, labels, **options)
        return fit(
            task, source, batch_size=20, epochs=1, validation=validation, progress=False
        ).history[0]

    for given, names, message in (
        (None, None, "has no labels; Classification needs them"),
        (labels, list("abcd"), "has 4 classes; num_classes of the model is 3"),
        (labels, list("acb"), "has the class 'c' where .* has 'b'; the same classes in the same"),
    ):
        with pytest.raises(InputError, match=message):
            trained(given, label_names=names)
    assert "validation/accuracy" in trained(np.minimum(labels, 1), label_names=list("ab"))


def test_an_optimizer_may_have_several_learning_rates(small_source, task):
    rates = {name: optax.inject_hyperparams(optax.sgd)(0.1) for name in ("slow", "fast")}

    def parts(params):
        return {name: "fast" if name == "logits" else "slow" for name in params}

    several = Classification(task.model, optax.partition(rates, parts))
    result = fit(several, small_source, batch_size=16, epochs=1, progress=False)
    assert "train/loss" in result.history[0]
    assert "train/learning_rate" not in result.history[0]
