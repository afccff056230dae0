"""Real garments end to end: a pass over a tenth of them already beats search by raw pixels."""

import pytest

from vision_jax.config import CNNConfig, DataConfig, OptimizerConfig, TrainCNN
from vision_jax.data.builders.fashion_mnist import SYSTEM_DIR, missing_files
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.retrieval import measure_retrieval
from vision_jax.run.run import load_run
from vision_jax.run.train import train


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_files(SYSTEM_DIR)), reason="dataset-fashion-mnist not installed")
def test_a_short_run_learns_to_recognise_and_to_search(tmp_path):
    config = TrainCNN(
        data=DataConfig(
            name="fashion_mnist",
            data_dir=str(tmp_path / "data"),
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
