"""What an encoder is worth where labels are few: fine-tuned on them, or used to spread them."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.sparse import csr_array, diags_array

from vision_jax.config import TrainConfig
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.evaluation.retrieval import nearest
from vision_jax.parallel.devices import Devices
from vision_jax.run.build import build_augmentation, build_task
from vision_jax.run.classes import match_classes
from vision_jax.run.init_from import like_run, start_from
from vision_jax.run.run import Run
from vision_jax.training.loop import Evaluator, fit
from vision_jax.training.steps import DataParallel

_PASSES = 50
_TAKEN = 0.99  # of the neighbours' labels; the rest is an image's own label


def few_rows(
    labels: Integer[np.ndarray, " images"], per_class: int, *, seed: int = 0
) -> Int[np.ndarray, " chosen"]:
    """Draw a few images of each class.

    Args:
        labels: (N,) the images' classes.
        per_class: how many of each.
        seed: of the draw.

    Returns:
        Their rows, rising.

    Raises:
        InputError: a class has fewer images, or `per_class` is less than 1.
    """
    random, chosen = np.random.default_rng(seed), list[np.ndarray]()
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        if not 1 <= per_class <= count:
            raise InputError(
                f"per_class is {per_class}; it must be in [1, {count}], the images of class {label}"
            )
        chosen.append(random.choice(np.flatnonzero(labels == label), per_class, replace=False))
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def few_label_accuracy(
    config: TrainConfig, few: Source, test: Source, *, start: Run | None = None
) -> float:
    """Train a classifier on few labelled images, from an encoder or from scratch, and test it.

    What `train` does with `init_from`, on sources and without a folder.

    Args:
        config: a classifier; its splits are not read. With `start`, what it leaves open is the
            encoder's, and `optimizer.freeze` may keep parts of it.
        few: the labelled images.
        test: images of the same classes, matched by their names.
        start: a run whose encoder to start from, such as one trained without labels; by default
            random weights.

    Returns:
        Accuracy on `test` after the last epoch, in [0, 1].

    Raises:
        InputError: the images or the encoder do not fit the config.
    """
    if start is not None:
        config = like_run(dataclasses.replace(config, init_from=str(start.workdir)), start)
    parallel = DataParallel.over(shards=config.optimizer.shards)
    data = config.data
    loader = Loader(few, data.batch_size, train=True, seed=config.seed, sampling=data.sampling)
    info = DataInfo.of(loader, count_classes=config.counts_classes)
    test = match_classes(test, few.label_names, f"training on {few.name}").source
    task = build_task(config, info)
    begun = start_from(start, task, config, info).state if start else None
    share = loader.batch_size // parallel.count
    state = fit(
        task,
        loader,
        epochs=config.epochs,
        seed=config.seed,
        state=begun,
        augment=build_augmentation(data, info, share, needs=task.needs),
        parallel=parallel,
        progress=False,
    ).state
    batches = Loader(test, _test_batch(parallel), train=False)
    return float(Evaluator(task, batches, parallel)(state)["accuracy"])


def propagate_labels(
    vectors: Float[np.ndarray, "images dim"],
    labels: Integer[np.ndarray, " images"],
    *,
    k: int = 20,
) -> Int[np.ndarray, " images"]:
    """Spread the labels of some images to all by how near they are, without training.

    Pass by pass, each image takes on a mean of its neighbours' labels, and the labelled ones a
    little of their own (Zhou et al., "Learning with local and global consistency", 2004). An edge
    weighs the cube of the cosine of centred vectors (Iscen et al., "Label propagation for deep
    semi-supervised learning", 2019). All classes then get the same weight, so that none takes over.

    Args:
        vectors: (N, D) features of all images; those that are all zero once centred have no
            neighbours.
        labels: (N,) classes from 0; -1 where unknown, as in scikit-learn.
        k: neighbours of each image, in [1, N).

    Returns:
        (N,) the class of each image; -1 where no label arrives.

    Raises:
        InputError: `k` is out of range, lengths differ, no image has a label, or a feature is NaN
            or infinite.
    """
    if len(labels) != len(vectors):
        raise InputError(f"labels has {len(labels)} rows; it must have {len(vectors)}, as vectors")
    if not 1 <= k < len(vectors):
        raise InputError(f"k is {k}; it must be in [1, {len(vectors)}), the number of vectors")
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise InputError("labels has none from 0; at least one label is needed")
    if not np.isfinite(vectors).all():
        raise InputError("vectors has NaN or infinity; finite features are needed")
    edges = _neighbours(vectors - vectors.mean(0), k)
    given = np.zeros((len(labels), int(labels.max()) + 1))
    given[known, labels[known]] = 1
    spread = given
    for _ in range(_PASSES):
        spread = _TAKEN * (edges @ spread) + (1 - _TAKEN) * given
    spread /= np.maximum(spread.sum(0), np.finfo(np.float64).tiny)
    return np.where(spread.any(1), spread.argmax(1), -1)


def _neighbours(vectors: Float[np.ndarray, "images dim"], k: int) -> csr_array:
    """Weigh the edges between neighbours, (N, N) symmetric, each divided by both ends' degrees."""
    count = len(vectors)
    asked = np.flatnonzero(vectors.any(1))
    scores, ids, _ = nearest(vectors[asked], [vectors], k + 1)
    rows = np.broadcast_to(asked[:, None], ids.shape)
    others = (ids >= 0) & (ids != rows)
    weights = np.maximum(scores[others], 0).astype(np.float64) ** 3
    edges = csr_array((weights, (rows[others], ids[others])), shape=(count, count))
    edges = edges + edges.T
    degrees = np.sqrt(np.maximum(edges.sum(1), np.finfo(np.float64).tiny))
    scale = diags_array(1 / degrees)
    return csr_array(scale @ edges @ scale)


def _test_batch(devices: Devices) -> int:
    return 64 * devices.count
