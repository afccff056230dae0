"""Open tfds data sets from their files, or write them as ArrayRecord."""

import importlib
import importlib.util
import io
import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from vision_jax.data.manifest import check_files, damaged, write_manifest
from vision_jax.errors import InputError

# tfds is imported on use: it takes half a second.
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def open_prepared(name: str, data_dir: str | Path | None, choices: Collection[str]) -> Any:
    """Open a data set that is on disk already, whoever wrote it.

    Args:
        name: the data set's name.
        data_dir: see `open_source`.
        choices: the names that need no preparation, for the message.

    Returns:
        A tfds `DatasetBuilder`.

    Raises:
        InputError: there is no such data set, or one of its files is damaged.
    """
    import tensorflow_datasets as tfds

    check_data_dir(data_dir)
    try:
        with _quiet():
            builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except Exception as error:  # tfds raises many kinds for what is not there
        for folder in _version_folders(name, data_dir):
            check_files(folder)
            what = str(error).partition("\n")[0] or type(error).__name__
            raise damaged(folder / "dataset_info.json", f"cannot be read ({what})") from error
        raise InputError(
            f"{name!r} is not a data set; needed: {', '.join(choices)}, a folder of images, "
            f"a listing (.csv, .tsv, .jsonl), or a tfds data set prepared in "
            f"{data_dir or tfds.core.constants.DATA_DIR}"
        ) from error
    check_files(builder.data_path)
    return builder


def own_builder(place: str, data_dir: str | Path | None) -> tuple[Any, bool]:
    """Make one of this project's builders.

    Args:
        place: `module:Class`.
        data_dir: see `open_source`.

    Returns:
        (builder, prepared): the tfds builder, and whether its files are there.

    Raises:
        InputError: the data set is prepared, and one of its files is damaged.
    """
    module, _, name = place.partition(":")
    builder = getattr(importlib.import_module(module), name)
    folder = _root(builder.name, data_dir) / str(builder.VERSION)
    if prepared := folder.exists():
        check_files(folder)
    with _quiet():
        made = builder(data_dir=data_dir)
    if prepared:
        names, needed = (info.features["label"].names for info in (made.info, made._info()))
        if names != needed:
            raise damaged(folder / "label.labels.txt", f"names {names}; {needed} are needed")
    return made, prepared


def stock_builder(name: str, data_dir: str | Path | None, choices: Collection[str]) -> Any:
    """Make one of the builders that come with tfds, which take TensorFlow.

    Raises:
        InputError: TensorFlow is not installed, or tfds has no such data set.
    """
    import tensorflow_datasets as tfds

    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"{name!r} is not among {', '.join(choices)}; preparing a stock tfds data set takes "
            "TensorFlow: pip install 'vision_jax[prepare]'"
        )
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"tfds has no data set {name!r}; see {_TFDS_CATALOG}") from error


_TFDS_CATALOG = "https://www.tensorflow.org/datasets/catalog/overview"


def write(builder: Any, manual_dir: str | Path | None = None, *, quiet: bool = True) -> None:
    """Write a builder's data set to disk, with the checksums of its files.

    Args:
        builder: a tfds builder.
        manual_dir: a folder of manually downloaded files. A builder may have a method
            `missing_files(folder)` that lists the missing ones.
        quiet: hide tfds's own progress bars and messages; this project's builders show one bar
            each.

    Raises:
        InputError: files are missing, or a download failed.
    """
    import tensorflow_datasets as tfds

    folder = None if manual_dir is None else Path(manual_dir).expanduser()
    if folder is not None:
        if not folder.is_dir():
            raise InputError(f"manual_dir is {str(manual_dir)!r}; an existing folder is needed")
        lacks = getattr(builder, "missing_files", None)
        if missing := lacks(folder) if lacks else []:
            raise InputError(f"manual_dir {str(manual_dir)!r} lacks {', '.join(missing)}")
    config = tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
    try:
        with _quiet() if quiet else nullcontext():
            builder.download_and_prepare(file_format="array_record", download_config=config)
    except InputError:
        raise
    except (OSError, tfds.download.DownloadError) as error:
        raise InputError(
            f"{builder.name} could not be prepared ({type(error).__name__}: {error}); files that "
            "cannot be downloaded may be given in a folder, manual_dir"
        ) from error
    write_manifest(Path(builder.data_dir))


def check_data_dir(data_dir: str | Path | None, *, writing: bool = False) -> None:
    """Refuse the URLs that neither tfds nor array_record can open.

    Raises:
        InputError: `data_dir` is one of them, or takes a package that is not installed.
    """
    place = str(data_dir or os.environ.get("TFDS_DATA_DIR", ""))
    if not re.match(r"\w\w+:/", place):
        return
    if writing or not place.startswith("gs://"):
        needed = "a folder" if writing else "a folder or gs://BUCKET/FOLDER"
        raise InputError(f"data_dir is {place!r}; {needed} is needed")
    if importlib.util.find_spec("gcsfs") is None:
        raise InputError(f"data_dir is {place!r}, which takes pip install 'vision_jax[gcs]'")


def _version_folders(name: str, data_dir: str | Path | None) -> list[Any]:
    """List the folders of a data set's versions, whatever their config."""
    root = _root(name.partition(":")[0], data_dir)
    folders = [root, *(path for path in _listed(root) if path.is_dir())]
    found = {path for folder in folders for path in _listed(folder)}
    return sorted(path for path in found if _VERSION.fullmatch(path.name) and path.is_dir())


def _root(name: str, data_dir: str | Path | None) -> Any:
    import tensorflow_datasets as tfds

    return tfds.core.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / name


def _listed(folder: Any) -> list[Any]:
    try:
        return list(folder.iterdir()) if folder.is_dir() else []
    except OSError:
        return []


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence tfds, which raises what goes wrong as well."""
    import tensorflow_datasets as tfds

    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    tfds.display_progress_bar(enable=False)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(enable=True)
        logger.setLevel(level)
