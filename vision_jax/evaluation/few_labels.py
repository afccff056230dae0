"""What an encoder is worth where labels are few: fine-tuned on some images of each class."""

import dataclasses

import numpy as np
from jaxtyping import Int, Integer

from vision_jax.config import TrainConfig
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.parallel.devices import Devices
from vision_jax.run.build import build_augmentation, build_task
from vision_jax.run.init_from import like_run, start_from
from vision_jax.run.run import Run
from vision_jax.training.loop import Evaluator, fit
from vision_jax.training.steps import DataParallel


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
        test: images of the same classes.
        start: a run whose encoder to start from, such as one trained without labels; by default
            random weights.

    Returns:
        Accuracy on `test` after the last epoch, in [0, 1].

    Raises:
        InputError: the images or the encoder do not fit the config.
    """
    if start is not None:
        config = like_run(dataclasses.replace(config, init_from=str(start.workdir)), start)
    parallel = DataParallel.over()
    data = config.data
    loader = Loader(few, data.batch_size, train=True, seed=config.seed, sampling=data.sampling)
    info = DataInfo.of(loader, count_classes=config.counts_classes)
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


def _test_batch(devices: Devices) -> int:
    return 64 * devices.count
