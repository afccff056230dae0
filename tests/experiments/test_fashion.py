"""What the experiments on Fashion-MNIST share, and what they draw."""

import shutil

import fashion
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes_compared import trained_on, uneven
from sklearn.datasets import load_digits

from vision_jax.config import CNNConfig, DataConfig, OptimizerConfig, TrainCNN
from vision_jax.data.sources import ArraySource
from vision_jax.training.loop import fit

CONFIG = TrainCNN(
    data=DataConfig(batch_size=100),
    model=CNNConfig(stages=(8,), hidden=16),
    optimizer=OptimizerConfig(learning_rate=3e-3),
    epochs=2,
)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return ArraySource.from_arrays(data.images[..., None].astype(np.uint8) * 15, data.target)


@pytest.mark.slow
def test_a_second_training_is_as_that_of_fit(digits):
    """The steps are compiled once, yet nothing of the first training is left in the second."""
    trainer = fashion.Trainer(CONFIG, digits)
    others = [trainer.fit(digits, seed) for seed in (0, 1)]
    plain = fit(trainer.task, digits, batch_size=100, epochs=2, seed=1, progress=False).state
    for found, wanted in zip(
        jax.tree.leaves(others[1].params), jax.tree.leaves(plain.params), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    predicted = trainer.predict(others[1], digits.images[:777])
    images = jnp.asarray(digits.images[:777] / np.float32(255))
    np.testing.assert_array_equal(predicted, trainer.task.logits(plain, images).argmax(1))


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_its_part_is_not_timed(digits, tmp_path):
    trainer = fashion.Trainer(CONFIG, digits)
    whole, seconds = trainer.resume(digits, 1, tmp_path)
    assert seconds > 0
    shutil.rmtree(max(tmp_path.glob("*/[0-9]*"), key=lambda path: int(path.name)))
    again, seconds = trainer.resume(digits, 1, tmp_path)
    assert seconds is None
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    kept = {"0": {"k-NN": 0.5, "seconds": None}, "1": {"k-NN": 0.7, "seconds": 3.0}}
    found = fashion.spreads(kept)
    assert (found["k-NN"]["values"], found["seconds"]["values"]) == ([0.5, 0.7], [3.0])
    assert not fashion.spreads({"0": {"seconds": None}})


def test_uneven_classes_fall_by_a_constant_factor():
    whole = ArraySource.from_arrays(
        np.zeros((20_000, 1, 1, 1), np.uint8), np.arange(20_000) % 10, name="grey"
    )
    counts = np.sort(np.bincount(uneven(whole, 3).classes))[::-1]
    assert (counts[0], counts[-1]) == (2000, 20)
    np.testing.assert_allclose(counts[1:] / counts[:-1], 0.01 ** (1 / 9), rtol=0.03)


def test_few_images_are_as_many_of_each_class_and_others_by_each_seed():
    pixels = np.arange(1000, dtype=np.uint16).view(np.uint8).reshape(1000, 1, 2, 1)
    whole = ArraySource.from_arrays(pixels, np.arange(1000) % 9, name="numbers")
    first, second = (trained_on(whole, "none", seed, 20) for seed in (0, 1))
    assert set(np.bincount(first.classes)) == {20}
    assert first.images.tolist() != second.images.tolist()
    assert trained_on(whole, "none", 0, None) is whole
