"""Find data sets by name: one table, and `open_source`."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from vision_jax.config import Fit, Interpolation, Truncated
from vision_jax.data.folder_tree import FILES
from vision_jax.data.folders import FolderData
from vision_jax.data.listing_file import is_listing
from vision_jax.data.listings import open_folder
from vision_jax.data.prepared import check_data_dir, open_prepared, own_builder, write
from vision_jax.data.records import TfdsData
from vision_jax.data.resize import Resize, Size, sides
from vision_jax.data.sources import BadFiles, Source
from vision_jax.data.splits import Splits
from vision_jax.errors import InputError
from vision_jax.files import absolute

DATA_SETS = {
    "digits": "vision_jax.data.builders.digits:Digits",
    "fashion_mnist": "vision_jax.data.builders.fashion_mnist:FashionMnist",
}
"""Where each data set's tfds builder is. These sets need no TensorFlow to be prepared."""


def open_source(
    name: str | os.PathLike[str],
    split: str,
    *,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    image_size: Size | None = None,
    fit: Fit = "crop",
    crop: float = 1.0,
    interpolation: Interpolation = "bilinear",
    channels: int | None = None,
    bad_files: BadFiles = "error",
    links: bool = False,
    truncated: Truncated = "error",
) -> Source:
    """Open a split of a data set or folder, preparing it first where this project can.

    Args:
        name: `digits`, `fashion_mnist`, a folder of images, a listing (a .csv, .tsv or .jsonl file
            that names images and their labels), or a prepared tfds data set.
        split: tfds's slicing syntax, such as `train`, `train[:90%]` or `all`. A folder without
            split folders, or a listing without splits, has `train` and `test`, a fixed 80:20
            division of each class. `files` are all images of a folder or listing, without labels.
        data_dir: where prepared data sets live, a folder or `gs://BUCKET/FOLDER`; tfds's own
            default if None.
        manual_dir: a folder of manually downloaded files.
        image_size: pixels that images are brought to, a square's side or (height, width); None
            keeps the set's own.
        fit: how images of other proportions are brought there: `crop`, `pad` or `stretch`; see
            `data.resize.Resize`.
        crop: share of the size that a centre crop keeps, in (0, 1].
        interpolation: how images are resized, antialiased: `bilinear` or `bicubic`.
        channels: 1 for grey, 3 for RGB; None keeps the set's own, and RGB for folders.
        bad_files: `error` refuses at once what cannot be an image, such as a link that leaves the
            folder, and raises when a damaged image is read; `skip` decodes every image of the split
            once and leaves the bad ones out, with a warning; `later` raises only when a bad image
            is read, and does not warn.
        links: follow symbolic links that leave the folder, and links to folders.
        truncated: `error` treats a JPEG whose last bytes are missing as bad; `use` reads the rest.

    Returns:
        A `Source`.

    Raises:
        InputError: there is no such data set, folder or split, or it holds no usable image.

    >>> import vision_jax
    >>> source = vision_jax.open_source("digits", "test")
    >>> len(source), source.image_shape, source.label_names[:3]
    (360, (8, 8, 1), ('0', '1', '2'))
    """
    return open_data(
        name,
        data_dir=data_dir,
        manual_dir=manual_dir,
        image_size=image_size,
        fit=fit,
        crop=crop,
        interpolation=interpolation,
        channels=channels,
        bad_files=bad_files,
        links=links,
        truncated=truncated,
        labels=split != FILES,
    ).source(split)


def open_data(
    name: str | os.PathLike[str],
    *,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    image_size: Size | None = None,
    fit: Fit = "crop",
    crop: float = 1.0,
    interpolation: Interpolation = "bilinear",
    channels: int | None = None,
    bad_files: BadFiles = "error",
    links: bool = False,
    truncated: Truncated = "error",
    labels: bool = True,
) -> FolderData | TfdsData:
    """Open a data set, folder or listing once, to take several splits of it; see `open_source`.

    Without `labels`, a folder has the one split `files`.

    Returns:
        A `DataSet`: its `source(split)` is what `open_source` returns, and its `choose_splits` what
        `default_splits` does.

    Raises:
        InputError: there is no such data set or folder, or an argument is out of range.
    """
    _check_choice("bad_files", bad_files, get_args(BadFiles))
    _check_choice("truncated", truncated, get_args(Truncated))
    _check_choice("interpolation", interpolation, get_args(Interpolation))
    _check_choice("channels", channels, (None, 1, 3))
    if not 0 < crop <= 1:
        raise InputError(f"crop is {crop}; it must be in (0, 1]")
    _check_choice("fit", fit, get_args(Fit))
    if fit != "crop" and (image_size is None or crop != 1):
        raise InputError(
            f"fit is {fit!r}, crop is {crop} and image_size is {image_size}; {fit} takes an "
            "image_size, and crop 1"
        )
    resize = Resize(crop, interpolation, fit)
    if image_size is not None and min(sides(image_size)) < 1:
        raise InputError(
            f"image_size is {image_size}; it must be at least 1: one number, or height and width"
        )
    path = path_of(name)
    if path is not None:
        return open_folder(
            path,
            image_size=image_size,
            channels=channels or 3,
            bad_files=bad_files,
            links=links,
            truncated=truncated,
            resize=resize,
            labels=labels,
        )
    name = os.fspath(name)
    builder = open_builder(name, data_dir=data_dir, manual_dir=manual_dir)
    return TfdsData.of(
        name,
        builder,
        image_size=image_size,
        channels=channels,
        bad_files=bad_files,
        truncated=truncated,
        resize=resize,
    )


def default_splits(
    name: str | os.PathLike[str],
    *,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    bad_files: BadFiles = "error",
    links: bool = False,
) -> Splits:
    """Choose the splits to train on, to choose the checkpoint by, and to report.

    Uses the validation split if there is one, and else holds out a tenth of the training split. One
    `DataWarning` lists what is unusual: a missing test split, classes that are not trained on,
    splits that overlap.

    Args:
        name: see `open_source`.
        train: overrides the choice if given.
        validation: likewise.
        test: likewise.
        data_dir: see `open_source`.
        manual_dir: see `open_source`.
        bad_files: see `open_source`; no image is opened.
        links: see `open_source`.

    Returns:
        (train, validation, test), in tfds's slicing syntax; each holds an example.

    Raises:
        InputError: there is no such data set, folder or split, or it is empty.
    """
    data = open_data(
        name, data_dir=data_dir, manual_dir=manual_dir, bad_files=bad_files, links=links
    )
    return data.choose_splits(train, validation, test)


def open_builder(
    name: str, *, data_dir: str | Path | None = None, manual_dir: str | Path | None = None
) -> Any:
    """Open a data set on disk, preparing it first if it is in the table; see `open_source`.

    Returns:
        A tfds `DatasetBuilder` whose files are there.

    Raises:
        InputError: the name is unknown, the set is damaged, or it is not prepared and cannot be.
    """
    if name not in DATA_SETS:
        return open_prepared(name, data_dir, DATA_SETS)
    check_data_dir(data_dir)
    builder, prepared = own_builder(DATA_SETS[name], data_dir)
    if not prepared:
        check_data_dir(data_dir, writing=True)
        write(builder, manual_dir)
    return builder


def folder_of(name: Any) -> Path | None:
    """Return the folder that a name means; None for the name of a data set.

    A name in the table means the data set. For a folder of the same name, write a path, `./digits`,
    or give a `Path`.

    Raises:
        InputError: the name is neither text nor a path, or is empty, or the folder cannot be read.
    """
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        raise InputError(f"name is {name!r}; a data set's name or a folder is needed")
    is_name = isinstance(name, str) and name in DATA_SETS
    try:
        path = Path(name).expanduser()
        return path if not is_name and path.is_dir() else None
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no such user's home
        reason = getattr(error, "strerror", error)
        raise InputError(f"{os.fspath(name)} cannot be read: {reason}") from error


def path_of(name: Any) -> Path | None:
    """Return the folder or listing that a name means; None for the name of a data set.

    A name that ends in .csv, .tsv or .jsonl means a listing, whether it is there or not.

    Raises:
        InputError: see `folder_of`.
    """
    folder = folder_of(name)
    if folder is None and is_listing(path := Path(name).expanduser()):
        return path
    return folder


def located(name: str) -> str:
    """Return a name that means the same from any working directory: of a path the absolute one.

    Raises:
        InputError: see `folder_of`.
    """
    path = path_of(name)
    return name if path is None else absolute(path)


def _check_choice(name: str, got: Any, choices: Collection[Any]) -> None:
    if got not in choices:
        raise InputError(f"{name} is {got!r}; it must be one of {', '.join(map(repr, choices))}")
