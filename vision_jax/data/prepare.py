"""tfds data sets on disk as ArrayRecord: this project's own builders, and those already there."""

import importlib
import importlib.util
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, Literal

from vision_jax.errors import InputError

# Modules are imported on use: tfds takes half a second.
BUILDERS = {"digits": "Digits", "fashion_mnist": "FashionMnist"}


def open_builder(
    name: str, *, data_dir: str | Path | None = None, manual_dir: str | Path | None = None
) -> Any:
    """Opens a data set, preparing it first if this project has its builder.

    Args:
        name: the data set's name.
        data_dir: where prepared data sets live, a folder or `gs://BUCKET/FOLDER`; tfds's own
            default if None.
        manual_dir: a folder of files fetched by hand.

    Returns:
        A tfds `DatasetBuilder` whose files are there.

    Raises:
        InputError: the name is unknown, or the set is not prepared and cannot be.
    """
    import tensorflow_datasets as tfds

    _check_data_dir(data_dir)
    if name in BUILDERS:
        builder = _own_builder(name, data_dir)
        if builder.is_prepared():
            return builder
        return prepare(name, data_dir=data_dir, manual_dir=manual_dir)
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except Exception as error:  # tfds raises many kinds for what is not there
        raise InputError(
            f"{name!r} is no data set; needed: {', '.join(BUILDERS)}, a folder of images, "
            f"or a tfds data set prepared in {data_dir or tfds.core.constants.DATA_DIR}"
        ) from error


def prepare(
    name: str, *, data_dir: str | Path | None = None, manual_dir: str | Path | None = None
) -> Any:
    """Writes a data set to disk as ArrayRecord.

    Args:
        name: the data set's name.
        data_dir: where prepared data sets live; tfds's own default if None.
        manual_dir: a folder of files fetched by hand.

    Returns:
        The prepared tfds `DatasetBuilder`.

    Raises:
        InputError: the name is unknown, files are missing, or a download failed.
    """
    import tensorflow_datasets as tfds

    _check_data_dir(data_dir, writing=True)
    if manual_dir is not None:
        _check_manual_dir(name, Path(manual_dir))
    own = name in BUILDERS
    builder = _own_builder(name, data_dir) if own else _stock_builder(name, data_dir)
    config = tfds.download.DownloadConfig(
        manual_dir=None if manual_dir is None else Path(manual_dir).expanduser(),
        try_download_gcs=False,
    )
    try:
        with _quiet() if own else nullcontext():
            builder.download_and_prepare(file_format="array_record", download_config=config)
    except InputError:
        raise
    except (OSError, tfds.download.DownloadError) as error:
        raise InputError(
            f"{name} could not be downloaded ({type(error).__name__}: {error}); its files can be "
            "given in a folder with --data.manual-dir"
        ) from error
    return builder


def prepare_folder(
    root: Path,
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    channels: int = 3,
    bad_files: Literal["error", "skip"] = "error",
) -> Any:
    """Writes a folder of images to disk as ArrayRecord, with its splits, labels and file names.

    Args:
        root: the folder; see `open_folder`.
        name: what to call the data set.
        data_dir: where prepared data sets live; tfds's own default if None.
        image_size: side to resize and crop to, written as PNG; None keeps the files' own bytes.
        channels: 1 for grey, 3 for RGB.
        bad_files: see `open_source`.

    Returns:
        The prepared tfds `DatasetBuilder`.

    Raises:
        InputError: the folder holds no image, one of them is bad, or the data set is there already.
    """
    from vision_jax.data.builders.image_folder import Content, ImageFolder
    from vision_jax.data.folder_tree import read_tree
    from vision_jax.data.folders import open_folder

    _check_data_dir(data_dir, writing=True)
    if name in BUILDERS:
        raise InputError(f"{name} is a data set of this project; another --name is needed")
    sources = {
        split: open_folder(
            root, split, image_size=image_size, channels=channels, bad_files=bad_files
        )
        for split in read_tree(root).files
    }
    builder = ImageFolder(Content.of(name, sources), data_dir)
    if builder.is_prepared():
        raise InputError(
            f"{builder.data_dir} is there already; another --name or its removal is needed"
        )
    with _quiet():
        builder.download_and_prepare(file_format="array_record")
    return builder


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves the progress to this project's builders, each with one bar."""
    import tensorflow_datasets as tfds

    tfds.display_progress_bar(enable=False)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(enable=True)


def _own_builder(name: str, data_dir: str | Path | None) -> Any:
    module = importlib.import_module(f"vision_jax.data.builders.{name}")
    return getattr(module, BUILDERS[name])(data_dir=data_dir)


def _stock_builder(name: str, data_dir: str | Path | None) -> Any:
    import tensorflow_datasets as tfds

    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"{name} is not among {', '.join(BUILDERS)}; preparing a stock tfds data set takes "
            "TensorFlow: pip install 'vision_jax[prepare]'"
        )
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"tfds has no data set {name!r}; see {_CATALOG}") from error


_CATALOG = "https://www.tensorflow.org/datasets/catalog/overview"


def _check_data_dir(data_dir: str | Path | None, *, writing: bool = False) -> None:
    """Refuses the URLs that neither tfds nor array_record can open."""
    place = str(data_dir or os.environ.get("TFDS_DATA_DIR", ""))
    if not re.match(r"\w\w+:/", place):
        return
    if writing or not place.startswith("gs://"):
        needed = "a folder" if writing else "a folder or gs://BUCKET/FOLDER"
        raise InputError(f"data_dir is {place!r}; {needed} is needed")
    if importlib.util.find_spec("gcsfs") is None:
        raise InputError(f"data_dir is {place!r}, which takes pip install 'vision_jax[gcs]'")


def _check_manual_dir(name: str, folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"data.manual_dir is {str(folder)!r}; it must be an existing folder")
    if name == "fashion_mnist":
        from vision_jax.data.builders.fashion_mnist import missing_files

        if missing := missing_files(folder):
            raise InputError(f"data.manual_dir {str(folder)!r} lacks {', '.join(missing)}")
