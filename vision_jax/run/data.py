"""A config's splits as images and as batches."""

from collections.abc import Iterator

import numpy as np

from vision_jax.config import DataConfig, TrainConfig
from vision_jax.data.catalog import open_source
from vision_jax.data.loader import Loader, padded, read_parts
from vision_jax.data.sources import Source
from vision_jax.training.steps import DataParallel


def open_split(data: DataConfig, split: str) -> Source:
    """Opens a split of a config's data."""
    return open_source(
        data.name,
        split,
        data_dir=data.data_dir,
        manual_dir=data.manual_dir,
        image_size=data.image_size,
        channels=data.channels,
        bad_files=data.bad_files,
    )


def split_loader(
    config: TrainConfig, source: Source, parallel: DataParallel, *, train: bool
) -> Loader:
    """The batches of one of a config's splits, for training or for evaluation."""
    data = config.data
    return Loader(
        source,
        data.batch_size,
        train=train,
        seed=config.seed,
        on_device_bytes=data.on_device_mib * 2**20,
        workers=data.workers,
        process=parallel.process,
    )


def row_chunks(images: np.ndarray | Source, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Padded parts of `size` rows, and how many of each are real; a source is read as they go."""
    if isinstance(images, Source):
        parts = (rows["image"] for rows in read_parts(images, size))
    else:
        parts = (images[start : start + size] for start in range(0, len(images), size))
    for part in parts:
        yield padded(part, size), len(part)
