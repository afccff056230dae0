"""Embed images into an index."""

from pathlib import Path
from typing import Literal

from vision_jax.commands.arguments import Workdir, parse_checkpoint
from vision_jax.errors import InputError


def index(
    workdir: Workdir,
    images: str,
    out: Path,
    split: str = "all",
    checkpoint: str = "best",
    bad_files: Literal["error", "skip"] | None = None,
    views: Literal[1, 2, 5, 10] | None = None,
) -> None:
    """Embed images with a trained model and write a search index.

    Run it again to update the index: it embeds only what is new or has changed. An index by another
    network or of other images is built anew. Example: vision-jax index runs/digits --images
    ~/photos --out photos.index

    Args:
        workdir: Folder of the run whose model embeds.
        images: A folder of images, or a data set's name.
        out: File to write; replaced only once the new one is whole.
        split: Which part of the images, in tfds's slicing syntax.
        checkpoint: `best` by the validation metric, `last`, or a step.
        bad_files: Unreadable images: stop and name the file, or skip them with a warning. Default:
            as in the run's training.
        views: Views of each image whose vectors are averaged, which finds more and takes as many
            times as long: 1, the image; 2, and its mirror image; 5, centre and corners; 10, these
            and their mirror images. `search` does the same to its queries. Default: those of the
            file's index, or 1.
    """
    from vision_jax.gallery.indexing import write_index
    from vision_jax.run.run import load_run

    if not out.parent.is_dir():
        raise InputError(f"out is {str(out)!r}; the folder {out.parent} must exist")
    run = load_run(workdir, parse_checkpoint(checkpoint))
    source = run.open_images(images, split, bad_files=bad_files)
    change = write_index(run, source, out, views=views)
    if change.rebuilt:
        print(f"{out} is built anew: {change.rebuilt}")
    print(
        f"{change.added + change.kept} images -> {out} "
        f"({change.added} embedded, {change.kept} kept, {change.removed} removed)"
    )
