"""Few labels, or a few thousand: trained from scratch, a linear probe, and fine-tuned.

Data        emoji      nine categories of `experiments/emoji_folders.py`: drawings by Google and
                       Twitter, all drawings of an emoji in one split; 2,592 to train, 742 to test
            emoji_20   the same with 20 training images a class, drawn by the seed
            fashion_100  100 training images of Fashion-MNIST, others by each seed; 10,000 to test
Networks    scratch: the CNN, on emoji at 64x64 with stages of 32, 64, 128 and 128 channels
            probe, tuned: EfficientNet-Lite0 with its ImageNet weights, of whole drawings; of the
            probe only the head trains; see `config` for sizes and settings
Measured    accuracy of the last checkpoint on the test set
Command     python experiments/emoji_folders.py emoji
            python experiments/fine_tuning.py emoji/categories
Needs       pip install 'vision_jax[pretrained]', and Fashion-MNIST
Results     experiments/results/fine_tuning.json, written as each run ends: hardware, versions,
            seeds, hours, mean and deviation
"""

import dataclasses
import itertools
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import tyro
from cards import description

from vision_jax import import_weights, load_run, train
from vision_jax.config import (
    ClassifierConfig,
    CNNConfig,
    DataConfig,
    OptimizerConfig,
    TrainClassifier,
    TrainCNN,
)
from vision_jax.errors import InputError
from vision_jax.files import json_text, write_text
from vision_jax.run.workdir import has_checkpoint

Way: TypeAlias = Literal["scratch", "probe", "tuned"]
Images: TypeAlias = Literal["emoji", "emoji_20", "fashion_100"]
WAYS: tuple[Way, ...] = ("scratch", "probe", "tuned")
IMAGES: tuple[Images, ...] = ("emoji", "emoji_20", "fashion_100")
RESULTS = Path(__file__).parent / "results"
COMMAND = "python experiments/fine_tuning.py emoji/categories"
PACKAGES = ("vision_jax", "jax", "flax", "optax", "numpy")


def main(
    folder: tyro.conf.Positional[Path],
    workdir: Path = Path("runs/fine_tuning"),
    seeds: tuple[int, ...] = (0, 1, 2),
    ways: tuple[Way, ...] = WAYS,
    images: tuple[Images, ...] = IMAGES,
    out: Path = RESULTS / "fine_tuning.json",
) -> None:
    """Train and measure a run per way, set of images and seed that `out` lacks.

    Args:
        folder: The folder `categories` that emoji_folders.py made.
        workdir: Folder of the runs. Rerun to resume.
        seeds: The seeds.
        ways: Which of the networks.
        images: Which of the sets.
        out: File for the figures.
    """
    if not (folder / "train").is_dir():
        raise InputError(f"{folder} has no train; write it with experiments/emoji_folders.py")
    rows = json.loads(out.read_text())["rows"] if out.exists() else {}
    for seed, kind, way in itertools.product(seeds, images, ways):
        name = f"{kind}, {way}"
        if rows.get(name, {}).get("settings") != settings(way, kind):
            rows[name] = {"settings": settings(way, kind), "seeds": {}}
        found = rows[name]["seeds"]
        if str(seed) not in found:
            found[str(seed)] = measured(*run_of(way, kind, folder, workdir, seed))
        accuracies = [one["accuracy"] for one in found.values()]
        deviation = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
        rows[name] |= {"mean": float(np.mean(accuracies)), "deviation": deviation}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, json_text(description(COMMAND, PACKAGES) | {"rows": rows}))
        print(f"{name}, seed {seed}: accuracy {found[str(seed)]['accuracy']:.4f}", flush=True)


def run_of(
    way: Way, images: Images, folder: Path, workdir: Path, seed: int
) -> tuple[ClassifierConfig, Path]:
    """Return a run's config and folder, once what it starts from is there."""
    start = None
    if start_of(way) == "lite0":
        start = workdir / "lite0"
        import_weights("efficientnet_lite0", workdir=start)
    if start_of(way) == "probe":
        probe, start = run_of("probe", images, folder, workdir, seed)
        train(probe, start)
    if images == "emoji_20":
        folder = few_images(folder, workdir / f"emoji_20_{seed}", seed)
    whole = config(way, images, str(folder), start and str(start))
    data = whole.data
    if images == "fashion_100":
        data = dataclasses.replace(data, train_split=f"train[{100 * seed}:{100 * seed + 100}]")
    return dataclasses.replace(whole, data=data, seed=seed), workdir / f"{way}_{images}_{seed}"


def measured(config: ClassifierConfig, run: Path) -> dict[str, Any]:
    """Train, and measure the last checkpoint; hours are None of a run that was resumed."""
    resumed, start = has_checkpoint(run), time.monotonic()
    train(config, run)
    hours = None if resumed else (time.monotonic() - start) / 3600
    return {"accuracy": load_run(run, "last").evaluate()["accuracy"], "hours": hours}


def config(
    way: Way, images: Images, folder: str = "categories", start: str | None = None
) -> ClassifierConfig:
    """Return the config of one way to train on a set of images."""
    few = images != "emoji"
    data = DataConfig(name=folder, batch_size=20 if few else 32, recipe="light", flip=True)
    if images == "emoji_20":
        data = dataclasses.replace(data, validation_split="validation[:10%]")
    if images == "fashion_100":
        data = dataclasses.replace(
            data, name="fashion_mnist", train_split="train[:100]", validation_split="train[59900:]"
        )
    if way == "scratch":
        return from_scratch(images, data)
    # Whole drawings, which fill their images; larger ones where few are to train on.
    side = {"emoji": 160, "emoji_20": 224, "fashion_100": 96}[images]
    data = dataclasses.replace(data, image_size=side, crop=1.0, channels=3)
    moves = OptimizerConfig(name="adamw", weight_decay=0.02, warmup_epochs=1, clip=1.0)
    if way == "probe":
        moves = dataclasses.replace(moves, freeze="backbone", learning_rate=5e-3)
    else:
        # From the probe: a new head would pull at the features before it knows the classes.
        moves = dataclasses.replace(
            moves,
            freeze="batch_norm",
            layer_decay=0.8,
            learning_rate=5e-4,
            accumulate=2,
        )
    epochs = {"probe": (20, 6), "tuned": (25, 10)}[way][not few]
    return TrainClassifier(
        data=data, optimizer=moves, label_smoothing=0.1, epochs=epochs, init_from=start
    )


def from_scratch(images: Images, data: DataConfig) -> TrainCNN:
    """Return the config of the CNN on a set of images."""
    moves = OptimizerConfig(learning_rate=1e-3, warmup_epochs=1)
    if images == "fashion_100":
        return TrainCNN(data=data, model=CNNConfig(dropout=0.5), optimizer=moves, epochs=100)
    return TrainCNN(
        data=dataclasses.replace(data, batch_size=32, image_size=64, recipe="standard", flip=False),
        model=CNNConfig(stages=(32, 64, 128, 128), dropout=0.5),
        optimizer=moves,
        epochs=60 if images == "emoji_20" else 20,
    )


def start_of(way: Way) -> str | None:
    """Name the run that one starts from."""
    return {"scratch": None, "probe": "lite0", "tuned": "probe"}[way]


def settings(way: Way, images: Images) -> dict[str, Any]:
    """Return a config as JSON has it, without the folders and the seed."""
    values: dict[str, Any] = json.loads(config(way, images, start=start_of(way)).to_json())
    return {name: value for name, value in values.items() if name != "seed"}


def few_images(folder: Path, target: Path, seed: int, count: int = 20) -> Path:
    """Copy a folder with few training images of each class, chosen by a seed."""
    if target.is_dir():
        return target
    random, temporary = np.random.default_rng(seed), target.with_name(f".{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    for split in ("valid", "test"):
        shutil.copytree(folder / split, temporary / split)
    for images in sorted((folder / "train").iterdir()):
        (temporary / "train" / images.name).mkdir(parents=True)
        for path in random.choice(sorted(images.iterdir()), count, replace=False):
            shutil.copy(path, temporary / "train" / images.name)
    return temporary.rename(target)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (InputError, OSError) as error:
        print(f"fine_tuning: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
