"""Accuracy by augmentation, with many images and with few, and by class-balanced sampling.

Network     the small CNN (stages of 32, 64 and 128 channels, dense 512, dropout 0.3)
Training    8 epochs of Fashion-MNIST's 60,000 training images in batches of 128, Adam with a
            half-cosine schedule; the same for all but the augmentation. Uneven: of the ten classes
            6,000 to 60 images, fewer by a constant factor from class to class, their order drawn by
            the seed; as many steps for all. Few: 20 drawings of each of nine categories of emoji,
            drawn by the seed, in 32x32 pixels; 200 epochs in batches of 36
Measured    accuracy on the 10,000 test images, 1,000 of each class, last weights; for uneven
            classes also that of the three rarest; of emoji on the 742 test images, drawings of
            other emoji
Command     python experiments/recipes_compared.py
            python experiments/recipes_compared.py --names 'uneven, as they come'
            'uneven, balanced sampling' 'uneven, balanced weights' --stages 16 32 64 --epochs 2
            --out experiments/results/uneven_classes.json
            python experiments/emoji_folders.py emoji
            python experiments/recipes_compared.py --emoji emoji/categories --names none light
            standard strong flips 'flips, erasing' 'flips, mixup' 'flips, cutmix' --epochs 200
            --batch-size 36 --out experiments/results/recipes_emoji.json
Hardware    an NVIDIA H100 (80 GB) and 16 CPU cores, beside other trainings; an NVIDIA H200 for
            mixup, cutmix, a seed of erasing and uneven classes; for emoji 2 cores of an AMD EPYC
            (Zen 4), shared with other work
Time        3 minutes for the first six ways, as long for mixing and for uneven classes; half a
            minute for a training on emoji
Seeds       0, 1, 2
Results     experiments/results/recipes_compared.json (uneven_classes.json, recipes_emoji.json),
            written after each run: hardware, versions, mean and deviation
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from fashion import (
    RESULTS,
    SYSTEM_DIR,
    Trainer,
    chosen,
    read,
    read_rows,
    spread,
    typed,
    write_card,
)

from vision_jax import open_source
from vision_jax.augment.draws import fold_in, per_example_keys
from vision_jax.augment.mixing import mix
from vision_jax.augment.recipes import Augment, augment
from vision_jax.config import CNNConfig, DataConfig, OptimizerConfig, TrainCNN
from vision_jax.data.loader import Batch, read_all
from vision_jax.data.sources import ArraySource
from vision_jax.evaluation.few_labels import few_rows

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
SIDE = 32  # of an emoji, in pixels


def main(
    data: Path = SYSTEM_DIR,
    out: Path = RESULTS / "recipes_compared.json",
    names: tuple[str, ...] = tuple(RECIPES),
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int = 8,
    stages: tuple[int, ...] = (32, 64, 128),
    limit: int | None = None,
    emoji: Path | None = None,
    per_class: int = 20,
    batch_size: int = 128,
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
        emoji: The folder `categories` of emoji_folders.py, to train on few of its drawings instead.
        per_class: Drawings of each category to train on, drawn by the seed.
        batch_size: Images a step; even, since they are mixed in pairs.
    """
    if emoji:
        train, test = drawings(emoji, "train"), drawings(emoji, "test")
    else:
        train, test = read("train", data, limit=limit), read("test", data, limit=limit)
    rows = read_rows(out)
    for name in names:
        trainer = None
        for seed in seeds:
            found = rows.setdefault(name, {"seeds": {}})["seeds"]
            if str(seed) in found:
                continue
            own = trained_on(train, name, seed, per_class if emoji else None)
            if trainer is None or name in UNEVEN:  # whose weights are in the compiled step
                longer = len(train) / len(own) if name in UNEVEN else 1
                how = config(name, round(epochs * longer), stages, batch_size, colour=bool(emoji))
                trainer = Trainer(how, own, mixed(name))
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


def drawings(folder: Path, split: str) -> ArraySource:
    """Read a split of a folder of emoji in 32x32 pixels."""
    source = open_source(folder, split, image_size=SIDE, channels=3)
    held = read_all(source)
    labels = held["label"].astype(np.int32)
    return ArraySource.from_arrays(held["image"], labels, label_names=source.label_names)


def config(
    name: str, epochs: int, stages: tuple[int, ...], batch_size: int, *, colour: bool
) -> TrainCNN:
    """Return what is trained."""
    given = dict(RECIPES.get(name, {}) or UNEVEN.get(name, {}))
    weights = given.pop("class_weights", "none")
    given |= {} if colour else {"mean": (0.286,), "std": (0.353,)}
    return TrainCNN(
        data=DataConfig(name="fashion_mnist", batch_size=batch_size, **given),
        model=CNNConfig(stages=stages, hidden=512, dropout=0.3),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_epochs=1),
        class_weights=weights,
        epochs=epochs,
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


def trained_on(train: ArraySource, name: str, seed: int, per_class: int | None) -> ArraySource:
    """Return all images, or those of a seed: as many of each class, or uneven."""
    if per_class:
        return chosen(train, few_rows(train.classes, per_class, seed=seed))
    return uneven(train, seed) if name in UNEVEN else train


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
