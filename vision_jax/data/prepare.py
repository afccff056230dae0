"""Write data sets and folders of images to disk as ArrayRecord, for random access."""

from pathlib import Path
from typing import Any

from vision_jax.config import BadFiles, Truncated
from vision_jax.data.catalog import DATA_SETS, open_data
from vision_jax.data.folders import FolderData
from vision_jax.data.prepared import check_data_dir, own_builder, stock_builder, write
from vision_jax.data.resize import Size
from vision_jax.errors import InputError


def prepare(
    name: str, *, data_dir: str | Path | None = None, manual_dir: str | Path | None = None
) -> Any:
    """Write a data set to disk.

    Args:
        name: one of this project's data sets, or with TensorFlow any of tfds's.
        data_dir: where prepared data sets live; tfds's own default if None.
        manual_dir: a folder of manually downloaded files.

    Returns:
        The prepared tfds `DatasetBuilder`.

    Raises:
        InputError: the name is unknown, files are missing, or a download failed.
    """
    check_data_dir(data_dir, writing=True)
    own = name in DATA_SETS
    if own:
        builder, _ = own_builder(DATA_SETS[name], data_dir)
    else:
        builder = stock_builder(name, data_dir, DATA_SETS)
    write(builder, manual_dir, quiet=own)
    return builder


def prepare_folder(
    root: Path,
    name: str,
    *,
    data_dir: str | None = None,
    image_size: Size | None = None,
    channels: int = 3,
    bad_files: BadFiles = "error",
    links: bool = False,
    truncated: Truncated = "error",
) -> Any:
    """Write a folder of images to disk, with its splits, labels and file names.

    Args:
        root: the folder, or a listing.
        name: what to call the data set.
        data_dir: where prepared data sets live; tfds's own default if None.
        image_size: a square's side or (height, width) to scale and centre-crop to, written as PNG;
            None keeps the files' own bytes.
        channels: 1 for grey, 3 for RGB.
        bad_files: see `open_source`.
        links: see `open_source`.
        truncated: see `open_source`.

    Returns:
        The prepared tfds `DatasetBuilder`.

    Raises:
        InputError: the folder holds no image, one of them is bad, or the data set is there already.
    """
    from vision_jax.data.builders.image_folder import Content, ImageFolder

    check_data_dir(data_dir, writing=True)
    if name in DATA_SETS:
        raise InputError(
            f"name is {name!r}, which is one of {', '.join(DATA_SETS)}; another is needed"
        )
    data = open_data(
        root,
        image_size=image_size,
        channels=channels,
        bad_files=bad_files,
        links=links,
        truncated=truncated,
    )
    assert isinstance(data, FolderData), root  # since it is a path
    builder = ImageFolder(
        Content.of(name, {split: data.source(split) for split in data.sizes}), data_dir
    )
    if Path(builder.data_dir).exists():
        raise InputError(f"{builder.data_dir} is there already; remove it, or give another name")
    write(builder)
    return builder
