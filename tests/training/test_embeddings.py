"""Embeddings trained to an end on digits: judged by search, resumed, taken on, and watched."""

import dataclasses

import numpy as np
import pytest
from flax import linen as nn

import vision_jax
from vision_jax.config import DataConfig, ModelConfig, TrainClassifier, TrainMetric
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.search.evaluation import evaluate_retrieval
from vision_jax.tasks.embedding import EmbeddingTask
from vision_jax.tasks.metric_learning import MetricLearning
from vision_jax.training.loop import TrainingDivergedError, fit

MODEL = ModelConfig("cnn", {"stages": [8, 16], "hidden": 32, "padding": "SAME"})
CONFIG = TrainMetric(
    data=DataConfig(batch_size=64, recipe="light"),
    model=MODEL,
    loss="contrastive",
    width=16,
    memory=128,
    epochs=3,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metric")
    result = vision_jax.train(CONFIG, folder, progress=False)
    return vision_jax.load_run(folder, "last"), result.history


@pytest.mark.slow
def test_search_gets_better_and_is_measured_as_evaluation_does(trained):
    run, history = trained
    assert history[-1]["validation/map@r"] > history[0]["validation/map@r"]
    test = run.source("test")
    vectors = run.embed(test)
    assert vectors.shape == (len(test), 16)
    found, wanted = run.evaluate(), evaluate_retrieval(vectors, test.labels(), ks=(1,))
    assert found["map@r"] == pytest.approx(wanted["map@r"])
    assert found["recall@1"] == pytest.approx(wanted["hit_rate@1"])
    assert found["recall@1"] > 0.8
    assert 1 < found["effective_rank"] < 16


@pytest.mark.slow
def test_a_stopped_run_resumes_bit_for_bit(trained, tmp_path):
    run, history = trained
    calls = iter(range(1000))
    vision_jax.train(CONFIG, tmp_path, progress=False, should_stop=lambda: next(calls) > 30)
    resumed = vision_jax.train(CONFIG, tmp_path, progress=False)
    assert resumed.history[-1] == history[-1]
    again = vision_jax.load_run(tmp_path, "last")
    assert again.identity == run.identity


@pytest.mark.slow
def test_a_backbone_goes_from_a_classifier_to_metric_learning_and_back(trained, tmp_path):
    run, _ = trained
    data = DataConfig(batch_size=64)
    classifier = TrainClassifier(data=data, epochs=1, init_from=str(run.workdir))
    vision_jax.train(classifier, tmp_path / "classifier", progress=False)
    start = (tmp_path / "classifier/init_from.json").read_text()
    assert "embedding_head/kernel" in start.split('"left_out"')[1]
    assert "logits/kernel" in start.split('"left_out"')[0]
    frozen = dataclasses.replace(CONFIG.optimizer, freeze="backbone")
    back = TrainMetric(
        data=data, epochs=1, width=8, optimizer=frozen, init_from=str(tmp_path / "classifier")
    )
    vision_jax.train(back, tmp_path / "metric", progress=False)
    there, here = (
        vision_jax.load_run(tmp_path / name, "last") for name in ("classifier", "metric")
    )
    np.testing.assert_array_equal(
        there.state.params["conv2"]["kernel"], here.state.params["conv2"]["kernel"]
    )
    assert here.embed(here.source("test")).shape == (360, 8)


class _Alike(nn.Module):
    """All images have the same embedding."""

    num_classes = 3

    @nn.compact
    def __call__(self, images, train=False):
        row = self.param("row", nn.initializers.ones, (1, 4))
        x = row + 0 * images.mean((1, 2))
        return x, {"embedding": x, "centres": self.param("centres", nn.initializers.ones, (3, 4))}


def test_a_run_that_collapses_stops_and_says_so():
    import optax

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 4, 4, 1), np.uint8), np.arange(24) % 3
    source = ArraySource.from_arrays(images, labels)
    task = MetricLearning(_Alike(), optax.sgd(0.1), "norm_softmax")
    assert isinstance(task, EmbeddingTask)
    with pytest.raises(TrainingDivergedError, match="collapsed at step 3: all images have nearly"):
        fit(task, source, epochs=2, batch_size=8, validation=source, progress=False)


def test_too_few_classes_are_refused_before_anything_is_written(tmp_path):
    config = dataclasses.replace(CONFIG, images_per_class=2)
    with pytest.raises(InputError, match="images of 10 classes; a batch_size of 64 with"):
        vision_jax.train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
