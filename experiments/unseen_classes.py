"""Search among classes that no network was trained on, by every embedding.

Embeddings  raw pixels, compared by their cosine; EfficientNet-Lite0 with its ImageNet weights,
            frozen, at 96 pixels; and WRN-16-2 trained on seven classes of Fashion-MNIST
            by cross-entropy, by a softmax of cosines, by Proxy-Anchor and by the supervised
            contrastive loss
Training    on the 42,000 training images of the seven classes, with flips and shifts of 2 pixels;
            AdamW, 256 images a batch, bfloat16; see `config`
Measured    the 3,000 test images of the other three classes search among themselves, each without
            itself; five splits of the classes drawn by a seed. Means over the splits; differences
            are paired, with the bootstrap's interval over images and Student's over the splits.
            Seen classes: trained on all ten, the 10,000 test images search among themselves
            The published figures are those of pixels and Lite0 alone
Command     python experiments/unseen_classes.py --names pixels "Lite0, frozen"
Hardware    2 cores of an AMD EPYC (Zen 4), shared with other work
Time        6 minutes
Seeds       0, of the splits and the bootstrap
Needs       for Lite0: pip install 'vision_jax[pretrained]'
Results     experiments/results/unseen_classes.json: hardware, versions, mean, deviation
"""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from fashion import RESULTS, SYSTEM_DIR, Trainer, chosen, hardware, in_parts, read, write_card

from vision_jax import import_weights
from vision_jax.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainClassifier,
    TrainConfig,
    TrainMetric,
)
from vision_jax.evaluation.class_splits import ClassSplit, class_splits, rows_of
from vision_jax.evaluation.intervals import bootstrap_interval
from vision_jax.evaluation.repeats import compare_over_splits, mean_over_splits
from vision_jax.evaluation.retrieval import Search
from vision_jax.search.evaluation import RetrievalValues, retrieval_values

COMMAND = 'python experiments/unseen_classes.py --names pixels "Lite0, frozen"'
LOSSES: dict[str, dict[str, Any]] = {
    "cross-entropy": {},
    "softmax of cosines": {"loss": "norm_softmax", "loss_options": {"scale": 16.0}},
    "Proxy-Anchor": {"loss": "proxy_anchor"},
    "contrastive": {"loss": "contrastive"},
}
NAMES = ("pixels", "Lite0, frozen", *LOSSES)
METRICS = ("map@r", "precision@10", "hit_rate@1", "r_precision", "map")
SEEN = ClassSplit(tuple(range(10)), tuple(range(10)))


def main(
    data: Path = SYSTEM_DIR,
    workdir: Path = Path("runs/unseen_classes"),
    out: Path = RESULTS / "unseen_classes.json",
    names: tuple[str, ...] = NAMES,
    splits: int = 5,
    depth: int = 16,
    width: int = 2,
    epochs: int = 10,
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
        depth: Depth of the wide residual network.
        width: Its width, in times of 16, 32 and 64 channels.
        epochs: Epochs of each training.
        seen: Whether to train on all classes too.
        limit: Training and test images to read; all by default.
        summarise: Whether to write the figures at the end.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    train, test = read("train", data, limit=limit), read("test", data, limit=limit)
    if set(names) & set(LOSSES):
        (workdir / "hardware.txt").write_text(hardware() + "\n")
    drawn = class_splits(10, 3, splits, seed=0)
    trainers: dict[Any, Trainer] = {}
    frozen: dict[str, np.ndarray] = {}
    for number, split in enumerate([*drawn, *([SEEN] if seen else [])]):
        for name in names:
            part = "seen" if split is SEEN else str(number)
            path = workdir / f"{name.replace(' ', '_')}-{part}.npz"
            if path.exists():
                continue
            start = time.monotonic()
            rows, kinds = rows_of(test.classes, split.unseen)
            if name in LOSSES:
                own = chosen(train, *rows_of(train.classes, split.seen))
                key = name, len(split.seen)
                if key not in trainers:
                    trainers[key] = Trainer(config(name, depth, width, epochs), own)
                vectors = trainers[key].embed(trainers[key].fit(own), test.images[rows])
            else:
                if name not in frozen:
                    frozen[name] = frozen_vectors(name, test.images, workdir)
                vectors = frozen[name][rows]
            found = retrieval_values(vectors, kinds, ks=(1, 10)).values
            np.savez(path, rows=rows, unseen=split.unseen, **found)
            means = ", ".join(f"{key} {np.nanmean(found[key]):.4f}" for key in METRICS[:2])
            took = time.monotonic() - start
            print(f"{name}, {part}, {split.unseen}: {means} ({took:.1f} s)", flush=True)
    if summarise:
        said: dict[str, Any] = {}
        if (workdir / "hardware.txt").exists():  # where networks were trained
            said = {"model": f"WRN-{depth}-{width}", "epochs": epochs}
            said["hardware"] = (workdir / "hardware.txt").read_text().strip()
        write_card(out, COMMAND, said | summary(workdir, splits))


def config(name: str, depth: int, width: int, epochs: int) -> TrainConfig:
    """Return what is trained for an embedding."""
    given: dict[str, Any] = {
        "data": DataConfig(
            name="fashion_mnist", batch_size=256, flip=True, pad_crop=2, mean=(0.286,), std=(0.353,)
        ),
        "model": ModelConfig("wrn_16_4", {"depth": depth, "width": width}),
        "optimizer": OptimizerConfig(
            name="adamw", learning_rate=2e-3, weight_decay=0.05, warmup_epochs=1, clip=1.0
        ),
        "epochs": epochs,
        "precision": "bfloat16" if jax.default_backend() != "cpu" else "float32",
    }
    kind = TrainMetric if LOSSES.get(name) else TrainClassifier
    return kind(**given, **LOSSES.get(name, {}))


def frozen_vectors(name: str, images: np.ndarray, workdir: Path) -> np.ndarray:
    """Embed images by what is not trained here."""
    if name == "pixels":
        return images.reshape(len(images), -1).astype(np.float32) / 255
    return import_weights("efficientnet_lite0", workdir=workdir / "lite0", image_size=96).embed(
        in_parts(jax.jit(_wide), images)
    )


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
