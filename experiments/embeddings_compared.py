"""Search on Fashion-MNIST by every embedding, on known and on unseen classes.

Embeddings  raw pixels, principal components, the codes of three autoencoders, the features of a
            GAN's discriminator and of a classifier, compared by their cosine
Measured    all classes: networks train on all ten; the test images search among themselves
            (precision@10, MAP@R), and each takes the majority label of its ten nearest training
            images (10-NN accuracy). Unseen classes: networks train on seven; the test images of
            pullover, shirt and ankle boot search among themselves, or those classes' training
            images
Command     python experiments/embeddings_compared.py
Version     0.1.0, Python 3.11, jax 0.10.2
Hardware    2 cores of an AMD EPYC (Zen 4), shared with other work
Time        21 minutes
Seeds       0

    all / unseen              numbers  precision@10   MAP@R          10-NN accuracy
    pixels                    784      0.761 / 0.859  0.331 / 0.519  0.853 / 0.908
    pca 30                    30       0.767 / 0.835  0.332 / 0.509  0.856 / 0.900
    conv autoencoder          392      0.774 / 0.837  0.328 / 0.519  0.867 / 0.900
    dense autoencoder         30       0.774 / 0.831  0.352 / 0.544  0.850 / 0.880
    variational autoencoder   20       0.767 / 0.833  0.304 / 0.521  0.851 / 0.892
    discriminator             3136     0.763 / 0.829  0.315 / 0.506  0.856 / 0.898
    cnn                       512      0.867 / 0.839  0.678 / 0.562  0.901 / 0.901
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

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
from vision_jax.data.catalog import open_source
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader, read_all
from vision_jax.data.sources import ArraySource
from vision_jax.run.build import build_task
from vision_jax.search import cosine_top_k
from vision_jax.search.evaluation import evaluate_retrieval, knn_accuracy
from vision_jax.training.loop import fit

HELD_OUT = (2, 6, 9)  # pullover and shirt, which are easily confused, and ankle boot
DATA = DataConfig(name="fashion_mnist", batch_size=128)
FAST = OptimizerConfig(learning_rate=2e-3)
CONFIGS: dict[str, TrainConfig] = {
    "conv autoencoder": TrainAutoencoder(
        data=DATA, model=AutoencoderConfig(loss="mean_squared_error"), optimizer=FAST, epochs=2
    ),
    "dense autoencoder": TrainAutoencoder(
        data=DATA,
        model=AutoencoderConfig(kind="dense", loss="mean_squared_error"),
        optimizer=FAST,
        epochs=4,
    ),
    "variational autoencoder": TrainAutoencoder(
        data=DATA, model=AutoencoderConfig(kind="variational"), optimizer=FAST, epochs=6
    ),
    "discriminator": TrainGAN(
        data=DATA,
        model=GANConfig(generator=(64, 32, 16), discriminator=(32, 64), ema=0.995),
        optimizer=OptimizerConfig(learning_rate=5e-4, schedule="constant", momentum=0.5),
        epochs=1,
    ),
    "cnn": TrainCNN(data=DATA, model=CNNConfig(dropout=0.5), optimizer=FAST, epochs=2),
}
Embed = Callable[[np.ndarray], np.ndarray]


def main(
    workdir: Path = Path("runs/embeddings_compared"), seed: int = 0, repeat: bool = False
) -> None:
    """Trains, measures, prints both tables and draws them.

    Args:
        workdir: folder for `metrics.json` and `embeddings.png`.
        seed: of every network.
        repeat: whether to measure again what `metrics.json` already holds.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    kept = workdir / "metrics.json"
    metrics = {} if repeat or not kept.is_file() else json.loads(kept.read_text())
    train, test = (read_all(open_source(DATA.name, split)) for split in ("train", "test"))
    for protocol in ("all classes", "held-out classes"):
        table = metrics.setdefault(protocol, {})
        held = np.isin(train["label"], HELD_OUT) if protocol != "all classes" else None
        seen = train if held is None else select(train, ~held)
        gallery = train if held is None else select(train, held)
        queries = test if held is None else select(test, np.isin(test["label"], HELD_OUT))
        for name in ("pixels", "pca 30", *CONFIGS):
            if name not in table:
                table[name] = measure(embedding(name, seen, seed), gallery, queries)
                kept.write_text(json.dumps(metrics, indent=2) + "\n")
            print(f"| {protocol} | {name} | " + row(table[name]) + " |", flush=True)
    draw(metrics).savefig(workdir / "embeddings.png", dpi=110)


def select(rows: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[mask] for name, values in rows.items()}


def embedding(name: str, seen: dict[str, np.ndarray], seed: int) -> Embed:
    """Build what turns uint8 images into vectors, fitted to the images and labels seen."""
    if name == "pixels":
        return flat
    if name == "pca 30":
        pca = PCA(30, svd_solver="covariance_eigh").fit(flat(seen["image"]))
        return lambda images: pca.transform(flat(images)).astype(np.float32)
    # Labels are numbered anew, since some classes may be missing.
    labels = np.unique(seen["label"], return_inverse=True)[1].astype(np.int32)
    source = ArraySource.from_arrays(seen["image"], labels, name="fashion_mnist")
    config = dataclasses.replace(CONFIGS[name], seed=seed)
    loader = Loader(source, config.data.batch_size, train=True, seed=seed)
    task = build_task(config, DataInfo.of(loader))
    state: Any = fit(task, loader, epochs=config.epochs, seed=seed).state
    embed_part = jax.jit(task.embed)

    def embed(images: np.ndarray) -> np.ndarray:
        parts = np.array_split(images.astype(np.float32) / 255, len(images) // 500)
        return np.concatenate([np.asarray(embed_part(state, part)) for part in parts])

    return embed


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def measure(
    embed: Embed, gallery: dict[str, np.ndarray], queries: dict[str, np.ndarray]
) -> dict[str, float]:
    vectors, known = embed(queries["image"]), embed(gallery["image"])
    among = evaluate_retrieval(vectors, queries["label"], ks=(10,))
    _, ids = cosine_top_k(jnp.asarray(vectors), jnp.asarray(known), 10)
    votes = gallery["label"][np.asarray(ids)]
    return {
        "dimensions": vectors.shape[1],
        "precision@10": among["precision@10"],
        "map@r": among["map@r"],
        "knn accuracy": knn_accuracy(votes, queries["label"]),
    }


def row(metrics: dict[str, float]) -> str:
    return " | ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in metrics.values())


def draw(metrics: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """Plot a panel per metric, a pair of bars per embedding."""
    names = ("precision@10", "map@r", "knn accuracy")
    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3, sharey=True), names, strict=True):
        for shift, (protocol, table) in zip((-0.2, 0.2), metrics.items(), strict=True):
            places = np.arange(len(table)) + shift
            axes.barh(places, [values[name] for values in table.values()], 0.4, label=protocol)
            axes.set_yticks(range(len(table)), list(table))
        axes.set(title=name, xlim=(0, 1))
        axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    tyro.cli(main)
