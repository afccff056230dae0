"""A run's data: its splits as images and as batches."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.config import AUTO, DataConfig, TrainConfig
from vision_jax.data.catalog import open_data, path_of
from vision_jax.data.class_batches import fitting_per_class
from vision_jax.data.data_set import DataSet
from vision_jax.data.folds import FoldedData
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader, padded, read_parts
from vision_jax.data.sources import Source
from vision_jax.data.splits import Splits
from vision_jax.errors import InputError
from vision_jax.parallel.devices import Devices


def located(config: TrainConfig) -> TrainConfig:
    """Return a config whose paths are absolute, so that they work from any working directory."""
    data = config.data
    places: dict[str, Any] = {
        name: _absolute(getattr(data, name)) for name in ("data_dir", "manual_dir")
    }
    if data.name and (path := path_of(data.name)) is not None:
        places["name"] = _absolute(str(path))
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, **places),
        init_from=_absolute(config.init_from),
    )


def _absolute(place: str | None) -> str | None:
    if place is None or "://" in place:
        return place
    return str(Path(place).expanduser().absolute())


def open_config_data(data: DataConfig) -> DataSet:
    """Open a config's data, to take several splits of it."""
    opened = open_data(
        data.name,
        data_dir=data.data_dir,
        manual_dir=data.manual_dir,
        image_size=data.image_size,
        crop=data.resize[0],
        interpolation=data.resize[1],
        fit=data.resize[2],
        channels=data.channels,
        bad_files=data.bad_files,
        links=data.links,
        truncated=data.truncated,
    )
    return FoldedData.of(opened, data.fold, seed=data.fold_seed) if data.fold else opened


def open_told_data(data: DataConfig, info: DataInfo) -> DataSet:
    """Open the data that a run was told; it is divided into folds only if it is the run's own.

    Args:
        data: the run's config, with the name it was told.
        info: the run's. Data with as many training images in its fold, and its classes, is its own.
    """
    opened = open_config_data(dataclasses.replace(data, fold=None))
    if data.fold is None:
        return opened
    with contextlib.suppress(InputError):  # other data need not be divisible
        folded = FoldedData.of(opened, data.fold, seed=data.fold_seed)
        names = folded.whole.multi_label_names or folded.whole.label_names
        if (folded.sizes["train"], names) == (info.train_examples, info.label_names):
            return folded
    return opened


def chosen_splits(data: DataConfig, opened: DataSet) -> Splits:
    """Return the splits that a config names, and the data's own where it leaves them to it.

    Data that a fold's config was told, and that is not divided, has its own.
    """
    given = (data.train_split, data.validation_split, data.test_split)
    if data.fold and not isinstance(opened, FoldedData):
        given = (AUTO, AUTO, AUTO)
    if AUTO not in given:
        return Splits(*given)
    return opened.plan(*(None if split == AUTO else split for split in given))[0]


def resolved(config: TrainConfig) -> tuple[TrainConfig, DataSet]:
    """Open a config's data, and put its own splits where the config leaves them to it.

    Warns of what is unusual about them.
    """
    config = located(config)
    opened = open_config_data(config.data)
    fields = ("train_split", "validation_split", "test_split")
    given = [getattr(config.data, field) for field in fields]
    chosen = opened.choose_splits(*(None if split == AUTO else split for split in given))
    splits: dict[str, Any] = dict(zip(fields, chosen, strict=True))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **splits)), opened


def split_loader(config: TrainConfig, source: Source, parallel: Devices, *, train: bool) -> Loader:
    """Batch one of a config's splits.

    Args:
        config: the run's config.
        source: the split's images.
        parallel: the devices. Evaluation, whose result does not depend on it, takes the next batch
            size that they can share.
        train: whether to shuffle.
    """
    data = config.data
    batch_size = data.batch_size
    if not train:
        batch_size = -(-batch_size // parallel.count) * parallel.count
    return Loader(
        source,
        batch_size,
        train=train,
        seed=config.seed,
        on_device_bytes=data.on_device_mib * 2**20,
        workers=data.workers,
        process=parallel.process,
        per_class=_per_class(config, source) if train else 0,
        sampling=data.sampling,
    )


def _per_class(config: TrainConfig, source: Source) -> int:
    """Choose how many images of each class a training batch holds, where the config does not."""
    if config.per_class is not None:
        return config.per_class
    labels = source.labels()
    classes = 0 if labels is None else len(np.unique(labels))
    return fitting_per_class(config.data.batch_size, classes)


def row_chunks(
    images: np.ndarray | Source, sizes: Sequence[int]
) -> Iterator[tuple[np.ndarray, int]]:
    """Cut rows into padded parts; a source is read as they go.

    Args:
        images: (N, ...) rows, or a source.
        sizes: how many rows a part may have, largest first. All parts but the last take the
            largest; the last takes the smallest that holds it.

    Yields:
        A part, and how many of its rows are real.
    """
    if isinstance(images, Source):
        parts = (rows["image"] for rows in read_parts(images, sizes[0]))
    else:
        parts = (images[start : start + sizes[0]] for start in range(0, len(images), sizes[0]))
    for part in parts:
        size = min(size for size in sizes if size >= len(part))
        yield padded(part, size), len(part)
