"""Try all of it on handwritten digits."""

import dataclasses
from pathlib import Path

from vision_jax.commands.evaluate import evaluate
from vision_jax.commands.generate import generate
from vision_jax.commands.index import index
from vision_jax.commands.report import report
from vision_jax.commands.train import RunOptions, run_training
from vision_jax.config import (
    AutoencoderConfig,
    CNNConfig,
    DataConfig,
    GANConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainCNN,
    TrainGAN,
)


def quickstart(workdir: Path = Path("runs/quickstart"), data_dir: str | None = None) -> None:
    """Train each kind of network on handwritten digits, evaluate, generate, index and report.

    Takes some two minutes. Nothing is downloaded: the digits come with scikit-learn.

    Args:
        workdir: Folder for the runs, one each in `cnn`, `autoencoder` and `gan`.
        data_dir: Where prepared data sets live. Default: $TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
    """
    data = DataConfig(data_dir=data_dir, batch_size=32)
    cnn = TrainCNN(
        data=dataclasses.replace(data, pad_crop=1),
        model=CNNConfig(stages=(64, 128), dropout=0.5),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        epochs=20,
    )
    autoencoder = TrainAutoencoder(
        data=data,
        model=AutoencoderConfig(hidden=(16,), code=2),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        epochs=20,
    )
    gan = TrainGAN(
        data=data,
        model=GANConfig(generator=(64, 32, 16), discriminator=(32, 64), latent_size=32, ema=0.99),
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="constant", momentum=0.5),
        epochs=30,
    )
    for config in (cnn, autoencoder, gan):
        folder = workdir / config.name
        if not run_training(config, RunOptions(folder)):
            return
        evaluate(folder, classifier=workdir / "cnn" if config is gan else None)
        target = folder / "train.index"
        index(folder, config.data.name, target, split=config.data.train_split)
        if config is not cnn:
            generate(folder)
        report(folder)
    print(f"search more with: vision-jax search {workdir / 'cnn' / 'train.index'} IMAGE.png")
