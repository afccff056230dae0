"""Show what augmentation does to images."""

from pathlib import Path

import tyro

from vision_jax.errors import InputError

_FOLDER_SIDE = 224


def augmentations(
    data: tyro.conf.Positional[str],
    out: Path = Path("augmentations.html"),
    split: str = "train",
    image_size: int | tuple[int, int] | None = None,
    data_dir: str | None = None,
    manual_dir: Path | None = None,
    seed: int = 0,
) -> None:
    """Write a page that shows every recipe and transform on images of a data set.

    Use it to spot transforms that change a class, such as mirroring digits. Then train with
    --data.recipe or --data.transforms. Example: vision-jax augmentations fashion_mnist

    Args:
        data: A data set's name, a folder of images or a listing, as for --data.name.
        out: HTML page to write.
        split: Split to take images from, in tfds's slicing syntax.
        image_size: Size in pixels, a square's side or height and width: images are scaled, then
            centre-cropped. Default: the set's own, and 224 for folders.
        data_dir: Where prepared data sets live, a folder or gs://BUCKET/FOLDER. Default:
            $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        manual_dir: Folder with manually downloaded files of a data set.
        seed: Seed of the random draws, in [0, 2**32).
    """
    from vision_jax.data.catalog import open_source, path_of
    from vision_jax.export.write import check_out
    from vision_jax.reports.augmentations import write_augmentations
    from vision_jax.reports.searches import PAGES

    check_out(out, PAGES)
    if not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed}; it must be in [0, 2**32)")
    if image_size is None and path_of(data) is not None:
        image_size = _FOLDER_SIDE
    source = open_source(
        data, split, data_dir=data_dir, manual_dir=manual_dir, image_size=image_size
    )
    write_augmentations(source, out, seed=seed)
    print(f"augmentations -> {out}")
