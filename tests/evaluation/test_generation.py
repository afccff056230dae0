"""A classifier's config, trained anew on generated images."""

import dataclasses

import numpy as np
import pytest

from vision_jax.config import CNNConfig, DataConfig, OptimizerConfig, TrainCNN
from vision_jax.data.info import DataInfo
from vision_jax.evaluation import generation
from vision_jax.run.build import build_task
from vision_jax.run.run import Run

CONFIG = TrainCNN(
    data=DataConfig(batch_size=10), model=CNNConfig(stages=(4,), hidden=4, padding="SAME"), epochs=9
)


class Made(Run):
    """A run without weights, which returns blank images and all classes in turn."""

    latent_size = 2

    def __init__(self, **values):
        self.__dict__.update(values)

    def generate(self, count, *, seed=0):
        return np.zeros((count, 8, 8, 1), np.float32)

    def predict(self, images):
        return np.eye(10)[np.arange(len(images)) % 10]


class FitError(Exception):
    """Ends a test where training would begin."""


@pytest.mark.parametrize(
    "options",
    [
        {"init_from": "encoder", "optimizer": OptimizerConfig(freeze="backbone")},
        {"init_from": "encoder", "optimizer": OptimizerConfig(head_epochs=4, layer_decay=0.5)},
        {"optimizer": OptimizerConfig(shards=4)},
        {"class_weights": "balanced"},
    ],
)
def test_all_of_the_network_trains_anew(options, small_source, monkeypatch):
    info = DataInfo((8, 8, 1), small_source.label_names, 50, 5)
    task = build_task(CONFIG, info)
    classifier = Made(config=dataclasses.replace(CONFIG, **options), info=info, task=task)
    monkeypatch.setattr(Made, "source", lambda self: small_source)
    seen = []

    def stop(task, loader, **options):
        seen.append(task)
        raise FitError

    monkeypatch.setattr(generation, "fit", stop)
    with pytest.raises(FitError):
        generation.train_on_generated(Made(info=info), classifier, count=20, epochs=2)
    (task,) = seen
    assert not task.frozen
    assert not task.fixed_statistics
    wanted = (1,) * 10 if "class_weights" in options else None
    assert task.class_weights == wanted
