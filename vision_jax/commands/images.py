"""What is done with images: preparing them, indexing them, and searching among them."""

import re
from pathlib import Path
from typing import Literal

import tyro

from vision_jax.commands.networks import Workdir, parse_checkpoint
from vision_jax.errors import InputError, RunError


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


def index(
    workdir: Workdir,
    images: str,
    out: Path,
    split: str = "all",
    checkpoint: str = "best",
    bad_files: Literal["error", "skip"] | None = None,
) -> None:
    """Embed images with a trained network and write a search index.

    Where the file already holds an index of the same images by the same checkpoint, only what is
    new or has changed is embedded. Example: vision-jax index runs/digits --images ~/photos --out
    photos.index

    Args:
        workdir: Folder of the run whose network embeds.
        images: A folder of images, or a data set's name.
        out: File to write; replaced only once the new one is whole.
        split: Which part of the images, in tfds's slicing syntax.
        checkpoint: `best` by the validation metric, `last`, or a step.
        bad_files: Images that cannot be read: end with their name, or leave them out with a
            warning. Default: what the run was trained with.
    """
    from vision_jax.gallery.indexing import write_index
    from vision_jax.run.run import load_run

    if not out.parent.is_dir():
        raise InputError(f"--out is {str(out)!r}; the folder {out.parent} must exist")
    run = load_run(workdir, parse_checkpoint(checkpoint))
    source = run.open_images(images, split, bad_files=bad_files)
    change = write_index(run, source, out)
    print(
        f"{change.added + change.kept} images -> {out} "
        f"({change.added} embedded, {change.kept} kept, {change.removed} removed)"
    )


def search(
    index: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]] = (),
    keys: tuple[str, ...] = (),
    k: int = 10,
    where: tuple[str, ...] = (),
    workdir: Path | None = None,
    picture: Path | None = None,
) -> None:
    """Find the indexed images that are most like the given ones.

    Examples: vision-jax search photos.index seven.png --k 5 --picture found.png
    and, for shoes like an indexed one: vision-jax search garments.index --keys
    fashion_mnist/test/0 --where label=Sneaker "label=Ankle boot" split=test

    Args:
        index: File that `vision-jax index` wrote.
        images: Image files to look up.
        keys: Indexed images to look up, each by its key as a search prints it; it leaves itself
            out.
        k: How many neighbours of each.
        where: FIELD=VALUE, what may be found by its label, split or key; of the same field one must
            hold, of different fields all.
        workdir: Folder of the run that made the index, if it has moved since.
        picture: PNG to draw the queries and their neighbours into.
    """
    from vision_jax.data.decode import printable
    from vision_jax.gallery import lookup
    from vision_jax.run.run import load_run

    if picture is not None and not picture.parent.is_dir():
        raise InputError(f"--picture is {str(picture)!r}; the folder {picture.parent} must exist")
    if bool(images) == bool(keys):
        raise InputError(
            f"{len(images)} images and {len(keys)} keys to look up were given; some images or some "
            "--keys are needed"
        )
    loaded = lookup.load_index(index)
    allowed = lookup.select_ids(loaded, where) if where else None
    run = load_run(workdir or loaded.about["workdir"], loaded.about["step"])
    if keys:
        found = lookup.search_indexed(loaded, lookup.find_keys(loaded, keys), k, where=allowed)
    else:
        found = lookup.search_images(loaded, run, images, k, where=allowed)
    names = [*map(printable, images), *keys]
    for name, scores, ids in zip(names, *found, strict=True):
        print(name)
        rows = loaded.metadata(ids)
        for place, (score, row) in enumerate(zip(scores, rows, strict=True), start=1):
            print(f"  {place:>3}  {score:+.4f}  {row.get('label', ''):<14}  {row['key']}")
    if picture is not None:
        from vision_jax.reports.searches import found_grid

        asked = lookup.read_indexed(loaded, run, keys) if keys else run.read_images(images)
        titles = [Path(name).name for name in names]
        found_grid(loaded, run, asked, titles, *found).savefig(picture, dpi=110)
        print(f"picture -> {picture}")


def duplicates(index: tyro.conf.Positional[Path], threshold: float = 0.999) -> None:
    """List indexed images that are nearly the same, those in both training and test split first.

    Example: vision-jax duplicates photos.index --threshold 0.99

    Args:
        index: File that `vision-jax index` wrote.
        threshold: Cosine similarity from which two images count as nearly the same, in (0, 1].
    """
    from vision_jax.gallery.lookup import find_duplicates, load_index

    groups = find_duplicates(load_index(index), threshold)
    leaks = sum(leak for leak, _ in groups)
    print(f"{len(groups)} groups, {leaks} of them across splits")
    for leak, rows in groups:
        print("across splits:" if leak else "group:")
        for row in rows:
            print(f"  {row['split']:<12}{row.get('label', ''):<14}{row['key']}")
