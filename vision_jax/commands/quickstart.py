"""Try everything on handwritten digits."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from vision_jax.commands.train import RunOptions, run_training
from vision_jax.config import (
    AutoencoderConfig,
    CNNConfig,
    DataConfig,
    GANConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainCNN,
    TrainConfig,
    TrainGAN,
)

if TYPE_CHECKING:
    from vision_jax.run.run import Run


def quickstart(workdir: Path = Path("runs/quickstart"), data_dir: str | None = None) -> None:
    """Train a CNN, an autoencoder and a GAN on handwritten digits, and report on each.

    Takes about a minute and downloads nothing: the digits come with scikit-learn. Each run is
    evaluated and its training images are indexed for search.

    Args:
        workdir: Folder for the runs `cnn`, `autoencoder` and `gan`.
        data_dir: Where prepared data sets live. Default: $TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
    """
    from vision_jax.run.run import load_run

    judge = None
    folders = []
    for name, config in _configs(DataConfig(data_dir=data_dir, batch_size=32)).items():
        folders.append(workdir / name)
        if not run_training(config, RunOptions(folders[-1])):
            return
        run = load_run(folders[-1])
        judge = judge or run
        _show(run, judge)
    print("\nlook at")
    for folder in folders:
        print(f"  {folder / 'report.html'}")
    print(
        "and search for your own image of a digit:\n"
        f"  vision-jax search {folders[0] / 'train.index'} IMAGE.png --picture found.png"
    )


def _configs(data: DataConfig) -> dict[str, TrainConfig]:
    return {
        "cnn": TrainCNN(
            data=dataclasses.replace(data, pad_crop=1),
            model=CNNConfig(stages=(64, 128), dropout=0.5),
            optimizer=OptimizerConfig(learning_rate=3e-3),
            epochs=20,
        ),
        "autoencoder": TrainAutoencoder(
            data=data,
            model=AutoencoderConfig(hidden=(16,), code=2),
            optimizer=OptimizerConfig(learning_rate=3e-3),
            epochs=20,
        ),
        "gan": TrainGAN(
            data=data,
            model=GANConfig(
                generator=(64, 32, 16), discriminator=(32, 64), latent_size=32, ema=0.99
            ),
            optimizer=OptimizerConfig(learning_rate=1e-3, schedule="constant", momentum=0.5),
            epochs=30,
        ),
    }


def _show(run: "Run", judge: "Run") -> None:
    """Evaluate, draw, index and report on a run, measuring it once."""
    from vision_jax.commands.evaluate import evaluate_run
    from vision_jax.evaluation.data import EvaluationData
    from vision_jax.gallery.writing import write_index
    from vision_jax.reports.generated import image_grids, write_image_grids
    from vision_jax.reports.run import write_report
    from vision_jax.tasks.base import Decodes

    data = EvaluationData.of(run)
    metrics = evaluate_run(data, judge if run.latent_size is not None else None)
    grids = None
    if isinstance(run.task, Decodes):
        grids, arrays = image_grids(data)
        for path in write_image_grids(run.workdir, grids, arrays):
            print(f"images -> {path}")
    target = run.workdir / "train.index"
    write_index(run, data.train, target)
    print(f"index -> {target}")
    print(f"report -> {write_report(data, metrics=metrics, grids=grids)}")
