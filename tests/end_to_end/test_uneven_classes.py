"""Uneven digits end to end: rare ones are recognised more often, probabilities are honest."""

import dataclasses

import pytest
from PIL import Image

from vision_jax.config import CNNConfig, DataConfig, OptimizerConfig, TrainCNN
from vision_jax.evaluation.calibration import calibrate
from vision_jax.evaluation.classes import measure_classes
from vision_jax.run.run import load_run
from vision_jax.run.train import train

FEW, MANY = 5, 90  # training images of the digits 5 to 9, and of 0 to 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """Uneven digits to train on, and the others, even, to validate with and to test on."""
    folder = tmp_path_factory.mktemp("uneven")
    images, labels = digits
    for kind in range(10):
        count = FEW if kind >= 5 else MANY
        for number, image in enumerate(images[labels == kind]):
            split = "train" if number < count else ("validation", "test")[number % 2]
            if number < count or number >= MANY:
                path = folder / split / str(kind) / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[..., 0]).save(path)
    return folder


def config_for(folder, *, sampling="uniform", **options):
    return TrainCNN(
        data=DataConfig(
            name=str(folder), channels=1, batch_size=64, train_split="train", sampling=sampling
        ),
        model=CNNConfig(stages=(16, 32), hidden=64),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        epochs=15,
        **options,
    )


@pytest.mark.slow
def test_rare_classes_are_recognised_more_often(folder, tmp_path):
    ways = {
        "as they are": {},
        "sampling": {"sampling": "balanced"},
        "weights": {"class_weights": "balanced"},
    }
    found = {}
    for way, options in ways.items():
        train(config_for(folder, **options), tmp_path / way, progress=False)
        found[way] = load_run(tmp_path / way, "last").evaluate()["balanced_accuracy"]
    assert found["sampling"] > found["as they are"] + 0.05, found
    assert found["weights"] > found["as they are"] + 0.05, found


@pytest.mark.slow
def test_a_temperature_makes_probabilities_believable(folder, tmp_path):
    train(config_for(folder), tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run", "last")
    calibrate(run)
    run = dataclasses.replace(run)  # reads the temperature
    test = run.source()
    metrics = measure_classes(run, test, run.evaluate(test)["confusion"])
    before = metrics["uncalibrated"]
    assert metrics["log_loss"] < 0.97 * before["log_loss"]
    assert metrics["calibration_error"] < 0.97 * before["calibration_error"]
