"""Find what is wrong with images."""

from pathlib import Path

import tyro

from vision_jax.errors import InputError, RunError


def check(
    data: tyro.conf.Positional[str],
    split: str = "all",
    image_size: int | None = None,
    out: Path | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> None:
    """Find what is wrong with a folder of images or a data set, by decoding all of it.

    Prints a table: errors are files that training cannot use (damaged, empty, no image, a link that
    leaves the folder, ...), warnings are what it can, or leaves out (a PNG that is a JPEG by its
    content, a class with 0 images, notes.txt, ...). Ends with 0 without errors, else with 1.
    Example: vision-jax check ~/photos --image-size 224 --out bad.csv

    Args:
        data: A folder of images, or a data set's name.
        split: What to look at, in tfds's slicing syntax.
        image_size: Side in pixels that training brings the images to; without it they must be of
            one size.
        out: File to write the table into as well, .csv or .json.
        data_dir: Where prepared data sets live. Default: $TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
        manual_dir: Folder with files fetched by hand.
    """
    from vision_jax.data.check import check_data, print_check, write_check

    if out is not None and (out.suffix not in (".csv", ".json") or not out.parent.is_dir()):
        raise InputError(f"--out is {str(out)!r}; a .csv or .json in an existing folder is needed")
    found = check_data(data, split, data_dir=data_dir, manual_dir=manual_dir, image_size=image_size)
    print_check(found, data)
    if out is not None:
        write_check(found, out)
        print(f"table -> {out}")
    if found.errors:
        raise RunError(f"{found.errors} errors in {data}; --data.bad-files skip leaves them out")
