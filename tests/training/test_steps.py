from functools import partial

import jax
import numpy as np
import optax
import pytest

from vision_jax.augment.recipes import augment
from vision_jax.data.loader import Loader, blank_batch
from vision_jax.errors import InputError
from vision_jax.models import CNN
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.classification import Classification
from vision_jax.training.loop import Evaluator, fit
from vision_jax.training.metrics import compute
from vision_jax.training.steps import DataParallel


@pytest.fixture(scope="module")
def task():
    model = CNN(num_classes=10, stages=(4,), hidden=8, padding="SAME")
    # SGD shows a gradient that is too large by the count of devices; Adam would hide it.
    return Classification(model, optax.sgd(0.1, momentum=0.9))


@pytest.fixture
def trained(task, small_source):
    def run(devices, recipe):
        return fit(
            task,
            Loader(small_source, 8, train=True),
            epochs=2,
            augment=partial(augment, recipe=recipe, flip=True, pad_crop=1),
            parallel=DataParallel.over(devices),
            progress=False,
        )

    return run


def test_weights_compiled_for_one_call_have_the_bits_of_others(task):
    def init(key):
        return task.init(key, blank_batch((8, 8, 1)))

    begun = DataParallel.over(1).begin(init, 3)
    for made, expected in zip(
        jax.tree.leaves(begun.params),
        jax.tree.leaves(jax.jit(init)(jax.random.key(3)).params),
        strict=True,
    ):
        np.testing.assert_array_equal(made, expected)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["none", "strong"])
def test_many_devices_train_as_one_does(trained, recipe):
    one = trained(1, recipe)
    for devices in (2, 4):
        many = trained(devices, recipe)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=0, atol=2e-6),
            many.state.params,
            one.state.params,
        )
        for a, b in zip(many.history, one.history, strict=True):
            assert a.keys() == b.keys()
            np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)
    assert one.history[1]["train/loss"] != one.history[0]["train/loss"]


def test_many_devices_evaluate_as_one_does(task, small_source):
    figures = []
    for devices in (1, 4):
        parallel = DataParallel.over(devices)
        state = parallel.replicate(jax.jit(task.init)(jax.random.key(0), _blank()))
        figures.append(Evaluator(task, Loader(small_source, 8, train=False), parallel)(state))
    assert figures[0]["confusion"].sum() == 50  # the padding of the last batch does not count
    np.testing.assert_array_equal(figures[0]["confusion"], figures[1]["confusion"])
    assert figures[0]["loss"] == pytest.approx(figures[1]["loss"], rel=1e-6)


def _blank():
    return blank_batch((8, 8, 1))


def test_a_step_is_traced_once_and_donates_its_state(task, small_source):
    traces = []

    class Counted(Classification):
        def train_step(self, state, batch):
            traces.append(1)
            return super().train_step(state, batch)

    counted = Counted(task.model, task.optimizer)
    parallel = DataParallel.over()
    loader = Loader(small_source, 8, train=True)
    state = parallel.replicate(counted.init(jax.random.key(0), _blank()))
    totals = parallel.zeros(counted.train_step, state, _blank())
    resident = parallel.replicate(loader.resident())
    step = parallel.train_step(counted)
    traces.clear()
    first = state
    # Nothing may come back to the host inside an epoch.
    with jax.transfer_guard_device_to_host("disallow_explicit"):
        for item in loader.items(0, 4):
            state, totals, _ = step(state, totals, resident, parallel.shard(item))
    assert len(traces) == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params))
    assert int(state.step) == 4
    assert compute(totals)["loss"] > 0


def test_a_step_that_forgets_to_reduce_is_refused(task):
    class Forgetful(Classification):
        def eval_step(self, state, batch):
            return {"loss": (batch["image"].sum(), batch["mask"].sum())}

    forgetful = Forgetful(task.model, task.optimizer)
    state = forgetful.init(jax.random.key(0), _blank())
    with pytest.raises(ValueError, match="out_axes"):
        DataParallel.over(2).zeros(forgetful.eval_step, state, _blank())


def test_images_are_mapped_in_order():
    images = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)
    mapped = DataParallel.over(4).map_images(lambda state, rows: rows[:, 0, 0] * state)
    np.testing.assert_array_equal(mapped(np.float32(2), images)[:, 0], np.arange(8) * 2)


def test_counts_that_cannot_be_are_named():
    with pytest.raises(InputError, match=r"devices is 9; it must be in \[1, 4\]"):
        DataParallel.over(9)
    with pytest.raises(InputError, match="6; it must be a multiple of the 4 devices"):
        DataParallel.over(4).check(6)
    assert AXIS == "batch"
