"""Nine categories of emoji: trained from scratch, a linear probe, and fine-tuned.

Data        emoji/categories of `experiments/emoji_folders.py`: drawings by Google and Twitter, all
            drawings of an emoji in one split; 2,592 to train, 370 to watch, 742 to test; and the
            same with 20 training images a class, drawn by the seed
Networks    scratch: the CNN, stages of 32, 64, 128 and 128 channels, at 64x64
            probe, tuned: EfficientNet-Lite0 with its ImageNet weights, of whole drawings; of the
            probe only the head trains; see `config` for sizes and settings
Measured    accuracy of the last checkpoint on the test set
Command     python experiments/emoji_folders.py emoji
            python experiments/fine_tuning_emoji.py emoji/categories
Needs       pip install 'vision_jax[pretrained]'
Results     experiments/results/fine_tuning_emoji.json, written as each run ends: hardware,
            versions, seeds, hours, mean and deviation
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
Amount: TypeAlias = Literal["few", "all"]
WAYS: tuple[Way, ...] = ("scratch", "probe", "tuned")
FEW = 20
AMOUNTS: dict[Amount, str] = {"few": f"{FEW} a class", "all": "all"}
RESULTS = Path(__file__).parent / "results"
COMMAND = "python experiments/fine_tuning_emoji.py emoji/categories"
PACKAGES = ("vision_jax", "jax", "flax", "optax", "numpy")


def main(
    folder: tyro.conf.Positional[Path],
    workdir: Path = Path("runs/fine_tuning_emoji"),
    seeds: tuple[int, ...] = (0, 1, 2),
    ways: tuple[Way, ...] = WAYS,
    amounts: tuple[Amount, ...] = tuple(AMOUNTS),
    out: Path = RESULTS / "fine_tuning_emoji.json",
) -> None:
    """Train and measure a run per way, number of images and seed that `out` lacks.

    Args:
        folder: The folder `categories` that emoji_folders.py made.
        workdir: Folder of the runs. Rerun to resume.
        seeds: The seeds.
        ways: Which of the networks.
        amounts: Few images, or all.
        out: File for the figures.
    """
    if not (folder / "train").is_dir():
        raise InputError(f"{folder} has no train; write it with experiments/emoji_folders.py")
    rows = json.loads(out.read_text())["rows"] if out.exists() else {}
    for seed, amount, way in itertools.product(seeds, amounts, ways):
        name = f"{way}, {AMOUNTS[amount]}"
        if rows.get(name, {}).get("settings") != settings(way, amount):
            rows[name] = {"settings": settings(way, amount), "seeds": {}}
        found = rows[name]["seeds"]
        if str(seed) not in found:
            found[str(seed)] = measured(*run_of(way, amount, folder, workdir, seed))
        accuracies = [one["accuracy"] for one in found.values()]
        deviation = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
        rows[name] |= {"mean": float(np.mean(accuracies)), "deviation": deviation}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, json_text(description(COMMAND, PACKAGES) | {"rows": rows}))
        print(f"{name}, seed {seed}: accuracy {found[str(seed)]['accuracy']:.4f}", flush=True)


def run_of(
    way: Way, amount: Amount, folder: Path, workdir: Path, seed: int
) -> tuple[ClassifierConfig, Path]:
    """Return a run's config and folder, once what it starts from is there."""
    start = None
    if way != "scratch":
        start = workdir / "lite0"
        import_weights("efficientnet_lite0", workdir=start)
    if start_of(way, amount) == "probe":
        probe, start = run_of("probe", amount, folder, workdir, seed)
        train(probe, start)
    data = few_images(folder, workdir / f"few_{seed}", seed) if amount == "few" else folder
    whole = config(way, amount, str(data), start and str(start))
    return dataclasses.replace(whole, seed=seed), workdir / f"{way}_{amount}_{seed}"


def measured(config: ClassifierConfig, run: Path) -> dict[str, Any]:
    """Train, and measure the last checkpoint; hours are None of a run that was resumed."""
    resumed, start = has_checkpoint(run), time.monotonic()
    train(config, run)
    hours = None if resumed else (time.monotonic() - start) / 3600
    return {"accuracy": load_run(run, "last").evaluate()["accuracy"], "hours": hours}


def config(
    way: Way, amount: Amount, folder: str = "categories", start: str | None = None
) -> ClassifierConfig:
    """Return the config of one way to train on all images, or on few."""
    few = amount == "few"
    if way == "scratch":
        return TrainCNN(
            data=DataConfig(name=folder, batch_size=32, image_size=64, recipe="standard"),
            model=CNNConfig(stages=(32, 64, 128, 128), dropout=0.5),
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_epochs=1),
            epochs=60 if few else 20,
        )
    # Whole drawings, which fill their images; larger ones where few are to train on.
    data = DataConfig(
        name=folder,
        batch_size=20 if few else 32,
        image_size=224 if few else 128,
        crop=1.0,
        recipe="light",
        flip=True,
        validation_split="validation[:10%]" if few else "validation",
    )
    moves = OptimizerConfig(name="adamw", weight_decay=0.02, warmup_epochs=1, clip=1.0)
    if way == "probe":
        moves = dataclasses.replace(moves, freeze="backbone", learning_rate=5e-3)
        epochs = 20 if few else 6
    elif few:
        # From the probe: a new head would pull at the features before it knows the classes.
        moves = dataclasses.replace(
            moves, freeze="batch_norm", layer_decay=0.8, learning_rate=5e-4, accumulate=2
        )
        epochs = 25
    else:
        moves = dataclasses.replace(
            moves, layer_decay=0.8, head_epochs=1, learning_rate=1e-3, accumulate=2
        )
        epochs = 10
    return TrainClassifier(
        data=data, optimizer=moves, label_smoothing=0.1, epochs=epochs, init_from=start
    )


def start_of(way: Way, amount: Amount) -> str | None:
    """Name the run that one starts from."""
    if way == "scratch":
        return None
    return "probe" if (way, amount) == ("tuned", "few") else "lite0"


def settings(way: Way, amount: Amount) -> dict[str, Any]:
    """Return a config as JSON has it, without the folders and the seed."""
    values: dict[str, Any] = json.loads(config(way, amount, start=start_of(way, amount)).to_json())
    return {name: value for name, value in values.items() if name != "seed"}


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
    try:
        tyro.cli(main)
    except (InputError, OSError) as error:
        print(f"fine_tuning_emoji: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
