"""Find what is wrong with images."""

from pathlib import Path

import tyro

from vision_jax.config import Truncated
from vision_jax.errors import InputError, RunError


def check(
    data: tyro.conf.Positional[str],
    split: str = "all",
    image_size: int | tuple[int, int] | None = None,
    links: bool = False,
    truncated: Truncated = "error",
    out: Path | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> None:
    """Find what is wrong with a folder, listing or data set, by decoding all of it.

    Prints a table. Errors are files that training cannot use (damaged, empty, not an image, a link
    out of the folder, ...). Warnings are files it can use or will skip, and what else is unusual (a
    PNG that holds a JPEG, a class with 0 images, a missing test split, notes.txt, ...).
    Of many warnings of one kind the first are printed; --out lists all. The exit code is 1 if there
    are errors. Example: vision-jax check ~/photos --image-size 224 --out bad.csv

    Args:
        data: A folder of images, a listing, or a data set's name.
        split: What to look at, in tfds's slicing syntax.
        image_size: Size in pixels that training will bring the images to, a square's side or height
            and width. Default: they must all have one size.
        links: Follow symbolic links that lead out of the folder, and links to folders.
        truncated: JPEG files whose last bytes are missing: treat them as bad, or use what is there.
        out: File to write the table to as well, .csv or .json.
        data_dir: Where prepared data sets live. Default: $TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
        manual_dir: Folder with files fetched by hand.
    """
    from vision_jax.data.check import check_data, print_check, write_check

    if out is not None and (out.suffix not in (".csv", ".json") or not out.parent.is_dir()):
        raise InputError(f"out is {str(out)!r}; a .csv or .json in an existing folder is needed")
    found = check_data(
        data,
        split,
        data_dir=data_dir,
        manual_dir=manual_dir,
        image_size=image_size,
        links=links,
        truncated=truncated,
    )
    print_check(found, data)
    if out is not None:
        write_check(found, out)
        print(f"table -> {out}")
    if found.errors:
        raise RunError(f"{found.errors} errors in {data}; set bad_files to skip to leave them out")
