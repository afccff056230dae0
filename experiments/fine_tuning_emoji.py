"""Nine categories of emoji: trained from scratch, a linear probe, and fine-tuned.

Data        emoji/categories of `experiments/emoji_folders.py`: drawings by Google and Twitter, all
            drawings of an emoji in one split; 2,592 to train, 370 to watch, 742 to test; and the
            same with 20 training images a class, drawn by the seed
Networks    scratch: the CNN, stages of 32, 64, 128 and 128 channels, at 64x64
            probe, tuned: EfficientNet-Lite0 with its ImageNet weights, at 96x96; of the probe only
            the head trains
Measured    the last checkpoint on the test set
Command     python experiments/emoji_folders.py emoji
            python experiments/fine_tuning_emoji.py emoji/categories
Version     0.1.0, Python 3.11, jax 0.10.2
Hardware    2 cores of an AMD EPYC (Zen 4), shared with other work
Time        with 20 images a class 3 minutes (scratch, probe) and 14 minutes (tuned)

Measured so far, accuracy with 20 images a class and seed 0:

    scratch, 40 epochs  0.458
    probe, 20 epochs    0.539
    tuned, 40 epochs    0.605
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import tyro

from vision_jax import import_weights, load_run, train
from vision_jax.config import (
    ClassifierConfig,
    CNNConfig,
    DataConfig,
    OptimizerConfig,
    TrainClassifier,
    TrainCNN,
)

Way: TypeAlias = Literal["scratch", "probe", "tuned"]
WAYS: tuple[Way, ...] = ("scratch", "probe", "tuned")
FEW = 20


def main(
    folder: tyro.conf.Positional[Path],
    workdir: Path = Path("runs/fine_tuning_emoji"),
    seeds: tuple[int, ...] = (0, 1, 2),
    ways: tuple[Way, ...] = WAYS,
) -> None:
    """Train and measure one run per way, number of images and seed; rerun to resume.

    Args:
        folder: the folder `categories` that `emoji_folders.py` made.
        workdir: folder of the runs.
        seeds: the seeds.
        ways: which of the networks.
    """
    lite0 = workdir / "lite0"
    if set(ways) - {"scratch"}:
        import_weights("efficientnet_lite0", workdir=lite0)
    for few in (True, False):
        for way in ways:
            accuracies = []
            for seed in seeds:
                data = few_images(folder, workdir / f"few_{seed}", seed) if few else folder
                run = workdir / f"{way}_{'few' if few else 'all'}_{seed}"
                train(dataclasses.replace(config(way, few, data, lite0), seed=seed), run)
                accuracies.append(load_run(run, "last").evaluate()["accuracy"])
                print(f"{run.name}: accuracy {accuracies[-1]:.4f}", flush=True)
            spread = np.std(accuracies, ddof=1) if len(seeds) > 1 else np.nan
            images = f"{FEW} a class" if few else "all"
            print(f"| {way}, {images} | {np.mean(accuracies):.4f} | {spread:.4f} |", flush=True)


def config(way: Way, few: bool, folder: Path, lite0: Path) -> ClassifierConfig:
    """Return the config of one way to train on all images, or on few."""
    data = DataConfig(
        name=str(folder), batch_size=32, image_size=96, crop=1.0, recipe="light", flip=True
    )
    if way == "scratch":
        return TrainCNN(
            data=dataclasses.replace(data, image_size=64, recipe="standard", flip=False),
            model=CNNConfig(stages=(32, 64, 128, 128), dropout=0.5),
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_epochs=1),
            epochs=60 if few else 20,
        )
    moves = OptimizerConfig(
        name="adamw", learning_rate=1e-3, weight_decay=0.02, warmup_epochs=1, clip=1.0
    )
    if way == "probe":
        moves = dataclasses.replace(moves, freeze="backbone", learning_rate=5e-3)
    else:
        moves = dataclasses.replace(moves, freeze="batch_norm", layer_decay=0.8)
    return TrainClassifier(
        data=data,
        optimizer=moves,
        label_smoothing=0.1,
        epochs=40 if few else 8,
        init_from=str(lite0),
    )


def few_images(folder: Path, target: Path, seed: int) -> Path:
    """Copy a folder with few training images of each class, chosen by a seed."""
    if target.is_dir():
        return target
    random, temporary = np.random.default_rng(seed), target.with_name(f".{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    for split in ("valid", "test"):
        shutil.copytree(folder / split, temporary / split)
    for images in sorted((folder / "train").iterdir()):
        (temporary / "train" / images.name).mkdir(parents=True)
        for path in random.choice(sorted(images.iterdir()), FEW, replace=False):
            shutil.copy(path, temporary / "train" / images.name)
    return temporary.rename(target)


if __name__ == "__main__":
    tyro.cli(main)
