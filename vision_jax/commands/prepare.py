"""Write a data set to disk."""

import re
from pathlib import Path
from typing import Literal

import tyro

from vision_jax.errors import InputError


def prepare(
    dataset: tyro.conf.Positional[str],
    name: str | None = None,
    image_size: int | None = None,
    channels: Literal[1, 3] = 3,
    bad_files: Literal["error", "skip"] = "error",
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> None:
    """Write a data set or a folder of images to disk as ArrayRecord, ready to be read at random.

    `digits` and `fashion_mnist` need nothing; any other data set of tfds's catalogue needs
    TensorFlow: pip install 'vision_jax[prepare]'. A folder keeps its splits, labels and file names,
    and is read afterwards by its name. Examples: vision-jax prepare fashion_mnist
    and vision-jax prepare ~/photos --name photos --image-size 224

    Args:
        dataset: Its name, or a folder of images.
        name: What to call a folder's data set. Default: the folder's name.
        image_size: Side in pixels that a folder's images are resized and cropped to, and written as
            PNG. Default: the files are written as they are.
        channels: 1 for grey, 3 for RGB, of a folder.
        bad_files: A folder's images that cannot be read: end with their name, or leave them out
            with a warning.
        data_dir: Where prepared data sets live. Default: $TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
        manual_dir: Folder with files fetched by hand.
    """
    from vision_jax.data import prepare as preparing

    if dataset not in preparing.BUILDERS and Path(dataset).is_dir():
        name = name or re.sub(r"\W+", "_", Path(dataset).absolute().name.lower())
        builder = preparing.prepare_folder(
            Path(dataset),
            name,
            data_dir=data_dir,
            image_size=image_size,
            channels=channels,
            bad_files=bad_files,
        )
    elif name is not None or image_size is not None:
        raise InputError(f"{dataset!r} is no folder, which --name and --image-size are for")
    else:
        builder = preparing.prepare(dataset, data_dir=data_dir, manual_dir=manual_dir)
    counts = ", ".join(
        f"{split} {info.num_examples}" for split, info in builder.info.splits.items()
    )
    print(f"{builder.name}: {counts} -> {builder.data_dir}")
