"""Accuracy by augmentation, and by class-balanced sampling where classes are uneven.

Network     the small CNN (stages of 32, 64 and 128 channels, dense 512, dropout 0.3)
Training    8 epochs of Fashion-MNIST's 60,000 training images in batches of 128, Adam with a
            half-cosine schedule; the same for all but the augmentation. Uneven: of the ten classes
            6,000 to 60 images, fewer by a constant factor from class to class, their order drawn by
            the seed; as many steps for all
Measured    accuracy on the 10,000 test images, 1,000 of each class, last weights; for uneven
            classes also that of the three rarest
Command     python experiments/recipes_compared.py
            python experiments/recipes_compared.py --names 'uneven, as they come'
            'uneven, balanced sampling' 'uneven, balanced weights' --stages 16 32 64 --epochs 2
            --out experiments/results/uneven_classes.json --seeds 0 1
Hardware    an NVIDIA H100 (80 GB) and 16 CPU cores, beside other trainings; for uneven classes 2
            cores of an AMD EPYC (Zen 4), shared with other work
Time        3 minutes for the first six ways, 4 minutes a seed for uneven classes; mixing is not
            measured yet
Seeds       0, 1, 2; for uneven classes 0 and 1
Results     experiments/results/recipes_compared.json, written after each run: hardware, versions,
            mean and deviation
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from fashion import RESULTS, SYSTEM_DIR, Trainer, chosen, read, spread, typed, write_card

from vision_jax.augment.draws import fold_in, per_example_keys
from vision_jax.augment.mixing import mix
from vision_jax.augment.recipes import Augment, augment
from vision_jax.config import CNNConfig, DataConfig, OptimizerConfig, TrainCNN
from vision_jax.data.loader import Batch
from vision_jax.data.sources import ArraySource

RECIPES: dict[str, dict[str, Any]] = {
    "none": {},
    "light": {"recipe": "light"},
    "standard": {"recipe": "standard"},
    "strong": {"recipe": "strong"},
    "flips": {"flip": True},
    "flips, erasing": {"flip": True, "transforms": ("erase",)},
    "flips, mixup": {"flip": True},
    "flips, cutmix": {"flip": True},
}
UNEVEN: dict[str, dict[str, Any]] = {
    "uneven, as they come": {},
    "uneven, balanced sampling": {"sampling": "balanced"},
    "uneven, balanced weights": {"class_weights": "balanced"},
}
NAMES = (*RECIPES, *UNEVEN)


def main(
    data: Path = SYSTEM_DIR,
    out: Path = RESULTS / "recipes_compared.json",
    names: tuple[str, ...] = NAMES,
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int = 8,
    stages: tuple[int, ...] = (32, 64, 128),
    limit: int | None = None,
) -> None:
    """Train and measure what `out` lacks.

    Args:
        data: Folder of the four IDX files.
        out: File for the figures.
        names: Which of the ways to train.
        seeds: The seeds.
        epochs: Epochs of each training.
        stages: Channels of the network's stages.
        limit: Training and test images to read; all by default.
    """
    train, test = read("train", data, limit=limit), read("test", data, limit=limit)
    rows = json.loads(out.read_text())["rows"] if out.exists() else {}
    for name in names:
        trainer = None
        for seed in seeds:
            found = rows.setdefault(name, {"seeds": {}})["seeds"]
            if str(seed) in found:
                continue
            own = uneven(train, seed) if name in UNEVEN else train
            if trainer is None or name in UNEVEN:  # whose weights are in the compiled step
                trainer = Trainer(
                    config(name, epochs, stages, len(train) / len(own)), own, mixed(name)
                )
            right = trainer.predict(trainer.fit(own, seed), test.images) == test.classes
            found[str(seed)] = float(np.mean(right))
            rows[name]["accuracy"] = spread([*found.values()])
            if name in UNEVEN:
                rarest = np.bincount(own.classes).argsort()[:3]
                share = float(np.mean(right[np.isin(test.classes, rarest)]))
                kept = rows[name].setdefault("rarest", {"values": []})["values"]
                rows[name]["rarest"] = spread([*kept, share])
            print(f"{name}, seed {seed}: {found[str(seed)]:.4f}", flush=True)
            write_card(out, typed(), {"epochs": epochs, "stages": stages, "rows": rows})


def config(name: str, epochs: int, stages: tuple[int, ...], longer: float) -> TrainCNN:
    """Return what is trained; fewer images are taken more often."""
    given = dict(RECIPES.get(name, {}) or UNEVEN.get(name, {}))
    weights = given.pop("class_weights", "none")
    return TrainCNN(
        data=DataConfig(name="fashion_mnist", batch_size=128, mean=(0.286,), std=(0.353,), **given),
        model=CNNConfig(stages=stages, hidden=512, dropout=0.3),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_epochs=1),
        class_weights=weights,
        epochs=round(epochs * longer),
    )


def mixed(name: str) -> Augment | None:
    """Return flips and one way to mix images in pairs; None where the config says it all."""
    how: Any = name.removeprefix("flips, ")
    if how not in ("mixup", "cutmix"):
        return None

    def change(key: jax.Array, batch: Batch, first: jax.Array | int = 0) -> Batch:
        batch = augment(key, batch, first, flip=True)
        keys = per_example_keys(key, first, len(batch["image"]))
        return mix(fold_in(keys, 4), batch, how=how)

    return change


def uneven(train: ArraySource, seed: int) -> ArraySource:
    """Take from all to a hundredth of a class's images, from class to class by the same factor."""
    random = np.random.default_rng(seed)
    kept = []
    for place, label in enumerate(random.permutation(10)):
        rows = np.flatnonzero(train.classes == label)
        kept.append(random.choice(rows, max(2, round(len(rows) * 0.01 ** (place / 9))), False))
    return chosen(train, np.sort(np.concatenate(kept)))


if __name__ == "__main__":
    tyro.cli(main)
