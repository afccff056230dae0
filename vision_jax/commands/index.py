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
