"""The table of data sets: from a name to a source."""

from pathlib import Path

from vision_jax.data.sources import BadFiles, Source


def open_source(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    bad_files: BadFiles = "error",
) -> Source:
    """Opens a split of a data set or folder, preparing it first where this project can.

    Args:
        name: `digits`, `fashion_mnist`, a folder of images, or a prepared tfds data set.
        split: tfds's slicing syntax, such as `train`, `train[:90%]` or `all`. A folder without
            split folders has `train` and `test`, a fixed 80:20 division of each class.
        data_dir: where prepared data sets live, a folder or `gs://BUCKET/FOLDER`; tfds's own
            default if None.
        manual_dir: a folder of files fetched by hand.
        image_size: side in pixels to resize and centre-crop to; None keeps the set's own.
        channels: 1 for grey, 3 for RGB; None keeps the set's own, and RGB for folders.
        bad_files: `error` refuses what cannot be an image, such as a link that leaves the folder,
            at once, and raises when a damaged image is read; `skip` decodes every image of the
            split once and leaves the bad ones out, with a warning; `later` raises only when a bad
            image is read, and says nothing before.

    Returns:
        A `Source`.

    Raises:
        InputError: there is no such data set, folder or split, or it holds no usable image.
    """
    from vision_jax.data.prepare import BUILDERS, open_builder

    # A folder that is called as one of this project's sets is written as a path: ./digits.
    if name not in BUILDERS and Path(name).is_dir():
        from vision_jax.data.folders import open_folder

        return open_folder(
            Path(name),
            split,
            image_size=image_size,
            channels=channels or 3,
            bad_files=bad_files,
        )
    from vision_jax.data.records import open_records

    builder = open_builder(name, data_dir=data_dir, manual_dir=manual_dir)
    return open_records(
        builder, split, image_size=image_size, channels=channels, skip=bad_files == "skip"
    )
