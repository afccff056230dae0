"""Write a data set to disk."""

import re
from typing import Literal

import tyro

from vision_jax.config import BadFiles, Truncated
from vision_jax.errors import InputError


def prepare(
    dataset: tyro.conf.Positional[str],
    name: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: Literal[1, 3] = 3,
    bad_files: BadFiles = "error",
    links: bool = False,
    truncated: Truncated = "error",
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> None:
    """Write a data set, a folder or a listing to disk as ArrayRecord, for fast random access.

    `digits` and `fashion_mnist` need nothing else; any other data set of tfds's catalogue needs
    TensorFlow: pip install 'vision_jax[prepare]'. A folder keeps its splits, labels and file names,
    and is then opened by its name. Examples: vision-jax prepare fashion_mnist
    and vision-jax prepare ~/photos --name photos --image-size 224

    Args:
        dataset: A data set's name, a folder of images, or a listing.
        name: Name for the folder's data set. Default: the folder's name.
        image_size: Size in pixels, a square's side or height and width: a folder's images are
            scaled, centre-cropped and stored as PNG. Default: the files are stored unchanged.
        channels: 1 for grey, 3 for RGB; for folders.
        bad_files: A folder's unreadable images: stop at the first, or leave them out with a
            warning.
        links: Follow symbolic links in a folder that lead out of it, and links to folders.
        truncated: JPEG files in a folder whose last bytes are missing: treat them as bad, or use
            what is there.
        data_dir: Where prepared data sets live. Default: $TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
        manual_dir: Folder with files fetched by hand.
    """
    from vision_jax.data import prepare as preparing
    from vision_jax.data.catalog import path_of

    path = path_of(dataset)
    if path is not None:
        name = name or re.sub(r"\W+", "_", path.absolute().name.lower())
        builder = preparing.prepare_folder(
            path,
            name,
            data_dir=data_dir,
            image_size=image_size,
            channels=channels,
            bad_files=bad_files,
            links=links,
            truncated=truncated,
        )
    elif name is not None or image_size is not None:
        raise InputError(
            f"{dataset!r} is not a folder; name and image_size are for folders and listings"
        )
    else:
        builder = preparing.prepare(dataset, data_dir=data_dir, manual_dir=manual_dir)
    counts = ", ".join(
        f"{split} {info.num_examples}" for split, info in builder.info.splits.items()
    )
    print(f"{builder.name}: {counts} -> {builder.data_dir}")
