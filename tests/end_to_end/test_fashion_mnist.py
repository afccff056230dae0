"""Real garments are prepared unchanged; a short training beats search by raw pixels."""

import numpy as np
import pytest

from vision_jax.config import CNNConfig, DataConfig, OptimizerConfig, TrainCNN
from vision_jax.data.builders.fashion_mnist import SYSTEM_DIR, missing_files, read_idx
from vision_jax.data.catalog import open_source
from vision_jax.data.loader import read_all
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.retrieval import measure_retrieval
from vision_jax.run.run import load_run
from vision_jax.run.train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_files(SYSTEM_DIR)), reason="dataset-fashion-mnist not installed"
    ),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Where the garments are prepared."""
    return tmp_path_factory.mktemp("garments")


def test_fashion_mnist_is_its_files(prepared):
    source = open_source("fashion_mnist", "test", data_dir=prepared)
    images = read_idx(SYSTEM_DIR / "t10k-images-idx3-ubyte.gz", (10_000, 28, 28))
    labels = read_idx(SYSTEM_DIR / "t10k-labels-idx1-ubyte.gz", (10_000,))
    rows = read_all(source)
    assert sorted(map(bytes, rows["image"])) == sorted(map(bytes, images))
    np.testing.assert_array_equal(np.bincount(rows["label"]), np.bincount(labels))
    assert source.label_names is not None
    assert source.label_names[9] == "Ankle boot"


def test_a_short_run_learns_to_recognise_and_to_search(prepared, tmp_path):
    config = TrainCNN(
        data=DataConfig(
            name="fashion_mnist",
            data_dir=str(prepared),
            train_split="train[:15%]",
            validation_split="train[95%:]",
            test_split="test[:20%]",
            batch_size=64,
            flip=True,
            mean=(0.286,),
            std=(0.353,),
        ),
        model=CNNConfig(stages=(32, 64), hidden=128),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        epochs=3,
    )
    train(config, tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    assert run.evaluate()["accuracy"] > 0.82
    metrics, _ = measure_retrieval(EvaluationData.of(run))
    for name, value in metrics["embedding"].items():
        assert value > metrics["pixels"][name] + 0.02, name
