"""Fashion-MNIST without labels: what the features tell of the classes, and 100 labels.

Network     a small CNN (stages of 32, 64 and 128 channels, padded, dense 1,024), or with --stages
            alone WRN-16-4, trained by SimCLR on the 60,000 training images without their labels:
            two views of each image by crops of at least 75% of the area, brightness and
            contrast, blur and random erasing, batches of 256, a projector of 512 and 128; AdamW
            with a half-cosine schedule
Measured    on the 10,000 test images: a weighted vote of the 20 nearest training images, a linear
            probe on the training images' features; and with the labels of 10 images of each class
            (drawn by the seed) alone: a linear probe on labels that spread from these to all
            training images, fine-tuning, and the same training from scratch
Command     python experiments/without_labels.py
            python experiments/without_labels.py --epochs 25 --no-few
            python experiments/without_labels.py --stages --epochs 20 --seeds 0 --no-few
Hardware    an NVIDIA H200 and 16 CPU cores, beside other trainings; seed 2 of the CNN's 40 epochs
            on 2 cores of an AMD EPYC without AVX-512, and 100 labels from scratch on 2 cores
Time        84 seconds of training (WRN-16-4: 109); 71 seconds an epoch of the CNN on 2 cores of an
            AMD EPYC (Zen 4), 107 minutes for seed 2, beside other work, and 3 minutes for its probe
Seeds       0, 1, 2; fine-tuned 0 and 2, WRN-16-4 0

    CNN, 40 epochs         k-NN 0.9061, linear probe 0.9102
                           100 labels spread 0.8119, fine-tuned 0.7993, from scratch 0.7318
    CNN, 25 epochs         k-NN 0.9036, linear probe 0.9077
    WRN-16-4, 20 epochs    k-NN 0.8978, linear probe 0.9112

Results     experiments/results/without_labels.json, written after each seed: hardware, versions,
            seconds, mean and deviation
"""

from collections.abc import Sequence
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
    spreads,
    told,
    typed,
    write_card,
)

from vision_jax.augment.color import color_jitter, random_blur
from vision_jax.augment.draws import apply_at_random, fold_in, per_example_keys
from vision_jax.augment.geometry import random_resized_crop
from vision_jax.augment.mixing import random_erasing
from vision_jax.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    SelfSupervisedMethod,
    TrainClassifier,
    TrainSelfSupervised,
)
from vision_jax.data.loader import Batch
from vision_jax.evaluation.few_labels import few_label_accuracy, few_rows, propagate_labels
from vision_jax.evaluation.probes import LinearProbe, fit_probe, knn_predict

UNLABELLED = ("seconds", "k-NN", "linear probe")
TUNED = ("100 labels, fine-tuned", "100 labels, from scratch")
SPREAD = "100 labels, spread"
FEW = (*TUNED, SPREAD)
MODEL = "wrn_16_4"
STAGES, HIDDEN = (32, 64, 128), 1024


def main(
    data: Path = SYSTEM_DIR,
    out: Path = RESULTS / "without_labels.json",
    method: SelfSupervisedMethod = "simclr",
    stages: tuple[int, ...] = STAGES,
    hidden: int = HIDDEN,
    options: dict[str, int] | None = None,
    epochs: int = 40,
    seeds: tuple[int, ...] = (0, 1, 2),
    few: bool = True,
    few_epochs: int = 100,
    limit: int | None = None,
    workdir: Path = Path("runs/without_labels"),
) -> None:
    """Train and measure the seeds that `out` lacks; rerun to go on where it was interrupted.

    Args:
        data: Folder of the four IDX files.
        out: File for the figures; it keeps those of other methods.
        method: How to learn without labels.
        stages: Channels of the CNN's stages; none trains a wide residual network instead.
        hidden: Width of the CNN's embedding.
        options: Options of the wide residual network, such as depth 10.
        epochs: Epochs of each training.
        seeds: The seeds.
        few: Whether to train on 100 labels.
        few_epochs: Epochs of that.
        limit: Training and test images to read; all by default.
        workdir: Folder of the checkpoints, one after each epoch.
    """
    train, test = read("train", data, limit=limit), read("test", data, limit=limit)
    rows = read_rows(out)
    model = network(stages, hidden, options or {})
    name = f"{described(model)}, {method}, {epochs} epochs"
    kept = rows.setdefault(name, {"seeds": {}})["seeds"]
    trainer = Trainer(config(method, model, epochs), train, views)
    for seed in seeds:
        row = kept.setdefault(str(seed), {})
        if row.keys() >= {*UNLABELLED, *(FEW if few else ())}:
            continue
        state, seconds = trainer.resume(train, seed, workdir / name)
        row["seconds"] = seconds or row.get("seconds")
        known, asked = (trainer.embed(state, source.images) for source in (train, test))
        row["k-NN"] = right(knn_predict(known, train.classes, asked), test.classes)
        print(f"{name}, seed {seed}: {row}", flush=True)
        row["linear probe"] = right(fit_probe(known, train.classes).predict(asked), test.classes)
        written(rows, out)
        if few:
            rows_few = few_rows(train.classes, 10, seed=seed)
            spread = spread_probe(known, train.classes, rows_few)
            row[SPREAD] = right(spread.predict(asked), test.classes)
            labelled = chosen(train, rows_few)
            tuned = few_config(model, few_epochs, seed)
            run = trainer.run(state, Path("encoder"))
            for way, begun in zip(TUNED, (run, None), strict=True):
                row[way] = few_label_accuracy(tuned, labelled, test, start=begun)
        print(f"{name}, seed {seed}: {row}", flush=True)
        written(rows, out)


def written(rows: dict[str, Any], out: Path) -> None:
    """Write the figures that there are."""
    for row in rows.values():
        row |= spreads(row["seeds"])
    write_card(out, typed(), {"rows": rows})


def right(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the images that are recognised."""
    return float(np.mean(predicted == labels))


def spread_probe(known: np.ndarray, classes: np.ndarray, rows: np.ndarray) -> LinearProbe:
    """Train a linear probe on the labels of a few rows once they have spread to the others."""
    labels = np.full(len(known), -1, np.int32)
    labels[rows] = classes[rows]
    labels = propagate_labels(known, labels)
    reached = labels >= 0
    return fit_probe(known[reached], labels[reached], l2=1e-3)


def network(stages: Sequence[int], hidden: int, options: dict[str, int]) -> ModelConfig:
    """Return what network to train."""
    if stages:
        return ModelConfig("cnn", {"stages": tuple(stages), "hidden": hidden, "padding": "SAME"})
    return ModelConfig(MODEL, options)


def described(model: ModelConfig) -> str:
    """Name a network, with the options that differ from the script's defaults."""
    if model.name == MODEL:
        return MODEL + told(model.options)
    usual = {"stages": STAGES, "hidden": HIDDEN}
    given = model.options.items()
    return "small CNN" + told({name: v for name, v in given if usual.get(name, v) != v})


def views(key: jax.Array, batch: Batch, first: jax.Array | int = 0) -> Batch:
    """Change less than the recipe `views`, and do not mirror: all shoes point to the left.

    One random number of each key (fold 2) places the window vertically and decides whether the
    image is jittered: windows in the last fifth of their range are not.
    """
    keys, images = per_example_keys(key, first, len(batch["image"])), batch["image"]
    images = random_resized_crop(keys, images, scale=(0.75, 1.0))
    jittered = color_jitter(
        fold_in(keys, 1), images, brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0
    )
    images = apply_at_random(fold_in(keys, 2), 0.8, jittered, images)
    images = random_blur(fold_in(keys, 3), images, sigma=(0.1, 1.0))
    return batch | {"image": random_erasing(fold_in(keys, 4), images)}


def config(method: SelfSupervisedMethod, model: ModelConfig, epochs: int) -> TrainSelfSupervised:
    """Return what is trained without labels."""
    return TrainSelfSupervised(
        data=DataConfig(
            name="fashion_mnist", batch_size=256, recipe="views", mean=(0.286,), std=(0.353,)
        ),
        model=model,
        method=method,
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=2e-3, weight_decay=1e-2, warmup_epochs=1, clip=1.0
        ),
        loss_options={"temperature": 0.1} if method == "simclr" else {},
        epochs=epochs,
        precision="bfloat16" if jax.default_backend() != "cpu" else "float32",
    )


def few_config(model: ModelConfig, epochs: int, seed: int) -> TrainClassifier:
    """Return what is trained on 100 labels."""
    return TrainClassifier(
        data=DataConfig(
            name="fashion_mnist",
            batch_size=50,
            pad_crop=2,
            mean=(0.286,),
            std=(0.353,),
        ),
        model=model,
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=1e-3, weight_decay=0.05, warmup_epochs=5, clip=1.0
        ),
        label_smoothing=0.1,
        epochs=epochs,
        seed=seed,
    )


if __name__ == "__main__":
    tyro.cli(main)
