"""A small residual network on Fashion-MNIST: test accuracy, and search by its embedding.

Network     WRN-16-4 (2.7 million parameters) by default; `--model wrn_40_4` for the published one
Training    all 60,000 training images, flips, shifts of 4 pixels and random erasing, 256 images a
            batch, a half-cosine schedule; SGD with Nesterov momentum for the two cross-entropies,
            AdamW for the other losses; bfloat16 on a GPU
Measured    the last weights on the 10,000 test images: accuracy, of the classifier and of a vote of
            the 20 nearest training images; precision@10 and MAP@R among them
Command     python experiments/resnet_fashion_mnist.py
            python experiments/resnet_fashion_mnist.py --losses contrastive 'smoothed cross-entropy'
            python experiments/resnet_fashion_mnist.py --losses 'softmax of cosines' Proxy-Anchor
            --seeds 0
            python experiments/resnet_fashion_mnist.py --model wrn_40_4 --epochs 40 --seeds 0
            with --losses 'smoothed cross-entropy', networks small enough for a CPU:
            --options depth 16 width 2 --epochs 20
            --options depth 16 width 2 --epochs 8
            --options depth 10 width 2 --epochs 15 --seeds 0
Hardware    an NVIDIA H100 (WRN-16-4 by cross-entropy) and an NVIDIA H200 (all others), with 16 CPU
            cores, beside other trainings
Time        24 to 181 seconds for a WRN-16-4, compilation included in the longer ones; 285 for
            WRN-40-4; on 2 cores of an AMD EPYC (Zen 1) 452 seconds an epoch of depth 16 and width
            2, 234 of depth 10
Seeds       0, 1, 2, or those of the command

    accuracy by cross-entropy     0.9504, deviation 0.0002; WRN-40-4 0.9541
    MAP@R among the test images   0.8169, deviation 0.0045; contrastive 0.8804, 0.0009

Results     experiments/results/resnet_fashion_mnist.json, written after each seed: hardware,
            versions, seconds, mean and deviation
"""

import time
from pathlib import Path
from typing import Any

import jax
import tyro
from fashion import (
    RESULTS,
    SYSTEM_DIR,
    Trainer,
    by_loss,
    read,
    read_rows,
    spreads,
    told,
    typed,
    write_card,
)

from vision_jax.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainClassifier,
    TrainMetric,
)
from vision_jax.evaluation.probes import knn_predict
from vision_jax.search.evaluation import evaluate_retrieval


def main(
    data: Path = SYSTEM_DIR,
    out: Path = RESULTS / "resnet_fashion_mnist.json",
    model: str = "wrn_16_4",
    losses: tuple[str, ...] = ("cross-entropy",),
    options: dict[str, int] | None = None,
    epochs: int = 25,
    seeds: tuple[int, ...] = (0, 1, 2),
    limit: int | None = None,
) -> None:
    """Train and measure the seeds that `out` lacks.

    Args:
        data: Folder of the four IDX files.
        out: File for the figures; it keeps those of other models and losses.
        model: The network.
        losses: What it is trained by, see `LOSSES` in fashion.py.
        options: Its options, such as depth 10.
        epochs: Epochs of each training.
        seeds: The seeds.
        limit: Training and test images to read; all by default.
    """
    train, test = read("train", data, limit=limit), read("test", data, limit=limit)
    rows = read_rows(out)
    trainers: dict[str, Trainer] = {}
    for seed, loss in [(seed, loss) for seed in seeds for loss in losses]:
        name = f"{model}{told(options or {})}, {epochs} epochs, {loss}"
        row = rows.setdefault(name, {"seeds": {}})
        if str(seed) in row["seeds"]:
            continue
        if loss not in trainers:
            trainers[loss] = Trainer(config(loss, model, epochs, options or {}), train)
        trainer, start = trainers[loss], time.monotonic()
        state = trainer.fit(train, seed)
        found: dict[str, float] = {"seconds": time.monotonic() - start}
        if isinstance(trainer.config, TrainClassifier):
            found["accuracy"] = trainer.accuracy(state, test)
        known, asked = (trainer.embed(state, source.images) for source in (train, test))
        found["k-NN"] = float((knn_predict(known, train.classes, asked) == test.classes).mean())
        searched = evaluate_retrieval(asked, test.classes, ks=(10,))
        found |= {name: searched[name] for name in ("precision@10", "map@r")}
        row["seeds"][str(seed)] = found
        row |= spreads(row["seeds"])
        print(f"{name}, seed {seed}: {found}", flush=True)
        write_card(out, typed(), {"rows": rows})


def config(
    loss: str, model: str, epochs: int, options: dict[str, int]
) -> TrainClassifier | TrainMetric:
    """Return what is trained."""
    given: dict[str, Any] = {"name": "sgd", "learning_rate": 0.2, "weight_decay": 5e-4}
    if "cross-entropy" not in loss:
        given = {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 0.05}
    return by_loss(
        loss,
        data=DataConfig(
            name="fashion_mnist",
            batch_size=256,
            flip=True,
            pad_crop=4,
            transforms=("erase",),
            mean=(0.286,),
            std=(0.353,),
        ),
        model=ModelConfig(model, dict(options)),
        optimizer=OptimizerConfig(**given, warmup_epochs=1, clip=5.0),
        epochs=epochs,
        precision="bfloat16" if jax.default_backend() != "cpu" else "float32",
    )


if __name__ == "__main__":
    tyro.cli(main)
