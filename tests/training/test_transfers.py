"""When batches reach the devices: ahead of the steps that need them, as bytes."""

import jax
import numpy as np
import optax
import pytest

from vision_jax.augment.recipes import augment
from vision_jax.data.loader import Loader
from vision_jax.models import CNN
from vision_jax.tasks.classification import Classification
from vision_jax.training.loop import fit, initial_state
from vision_jax.training.progress import Progress
from vision_jax.training.steps import DataParallel, augmented

EPOCHS, PER_EPOCH = 2, 6


@pytest.fixture
def parts(small_source):
    task = Classification(CNN(num_classes=10, stages=(4,), hidden=8), optax.adam(1e-2))
    loader = Loader(small_source, 8, train=True, on_device_bytes=0)
    return task, loader, DataParallel.over(4), lambda *given: augment(*given, pad_crop=1)


def one_by_one(task, loader, parallel, augmentation):
    """Train with every batch placed after the last step's result is there."""
    state = parallel.replicate(initial_state(task, 0, loader.source.image_shape))
    step = parallel.train_step(task, augmentation)
    for number in range(EPOCHS * PER_EPOCH):
        if number % PER_EPOCH == 0:
            totals = parallel.zeros(augmented(task, augmentation), state, loader.blank(2))
        batch = parallel.shard(loader.item(number))
        state, totals, _ = jax.block_until_ready(step(state, totals, {}, batch))
    return state


@pytest.mark.slow
def test_a_batch_is_on_its_way_before_the_step_before_it_is_waited_for(parts, monkeypatch):
    task, loader, parallel, augmentation = parts
    events, sent = [], []
    shard, count = DataParallel.shard, Progress._count

    def placing(self, item):
        events.append(f"put {sum(event.startswith('put') for event in events)}")
        sent.append({name: rows.dtype for name, rows in item.items()})
        return shard(self, item)

    def waiting(self):
        events.append(f"wait {self._step}")
        count(self)

    monkeypatch.setattr(DataParallel, "shard", placing)
    monkeypatch.setattr(Progress, "_count", waiting)
    options = {"epochs": EPOCHS, "parallel": parallel, "augment": augmentation}
    state = fit(task, loader, progress=False, **options).state
    for step in range(EPOCHS * PER_EPOCH - 1):
        ahead = events.index(f"put {step + 1}") < events.index(f"wait {step}")
        # The first batch of an epoch comes once the last one is saved.
        assert ahead == ((step + 1) % PER_EPOCH > 0), events
    # Pixels travel as bytes; what is made of them is made on the device.
    assert all(kinds["image"] == np.uint8 for kinds in sent)
    monkeypatch.undo()
    jax.tree.map(np.testing.assert_array_equal, state.params, one_by_one(*parts).params)
