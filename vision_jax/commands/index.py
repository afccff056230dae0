"""Embed images into an index."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vision_jax.commands.arguments import Workdir, parse_checkpoint
from vision_jax.commands.messages import in_options
from vision_jax.errors import InputError
from vision_jax.parallel.distributed import Distributed

if TYPE_CHECKING:
    from vision_jax.config import BadFiles
    from vision_jax.gallery import IndexChange
    from vision_jax.run.run import Run

_ALONE = Distributed()


def index(
    workdir: Workdir,
    images: str,
    out: Path,
    split: str = "all",
    checkpoint: str = "best",
    bad_files: Literal["error", "skip"] | None = None,
    views: Literal[1, 2, 5, 10] | None = None,
    shards: int | None = None,
    method: Literal["hnsw"] | None = None,
    recall: float | None = None,
    distributed: Distributed = _ALONE,
) -> None:
    """Embed images with a trained model and write a search index.

    Run it again to update the index: it embeds only what is new or has changed. An index by another
    network or of other images is built anew. A call that was interrupted resumes: what it embedded
    is in OUT.parts. Example: vision-jax index runs/digits --images ~/photos --out photos.index

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
        shards: Write a folder of this many files, for large galleries; `search` takes the folder.
            Default: one file, or as many as the folder holds.
        method: Write the graph of `hnsw` into the file, for large galleries: `search --method hnsw`
            and `serve --method hnsw` are approximate, and need not build it then. Takes the extra
            `ann`. Default: a graph if the file's index has one.
        recall: Which share of the 10 nearest the graph is to find, measured with indexed images: a
            higher one is slower. Default: 0.97.
        distributed: Other processes, which embed the images together.
    """
    from vision_jax.parallel.processes import joined, together
    from vision_jax.run.run import load_run
    from vision_jax.search.methods import check_kept

    check_kept(method, recall)

    def tell(error: Exception) -> str:
        return in_options(str(error), index)

    with joined(distributed, tell, kept=f"{out}.parts"):
        together(partial(_check_out, out))
        run = together(lambda: load_run(workdir, parse_checkpoint(checkpoint)))
        options = {"views": views, "shards": shards, "method": method, "recall": recall}
        change = _write(run, images, out, split, bad_files, options)
        if run.parallel.is_first:
            print(_told(change, out))


def _check_out(out: Path) -> None:
    if not out.parent.is_dir():
        raise InputError(f"out is {str(out)!r}; the folder {out.parent} must exist")


def _write(
    run: "Run",
    images: str,
    out: Path,
    split: str,
    bad_files: "BadFiles | None",
    options: dict[str, Any],
) -> "IndexChange":
    from vision_jax.data.catalog import located
    from vision_jax.data.findings import warn_once
    from vision_jax.gallery.writing import write_index
    from vision_jax.parallel.processes import first_alone, together

    images = located(images)
    if run.parallel.process[1] == 1:
        source = run.open_images(images, split, bad_files=bad_files)
        return write_index(run, source, out, **options)
    # Each process reads its own files alone, and finds those that cannot be read as it does.
    bad_files = bad_files or run.config.data.bad_files
    first_alone(lambda: run.open_data(images))  # which prepares a data set that is not there
    source = together(lambda: run.open_images(images, split, bad_files="later"))
    change = write_index(run, source, out, bad_files=bad_files, **options)
    if change.skipped and run.parallel.is_first:
        key, why = next(iter(change.skipped.items()))
        warn_once(f"skipped {len(change.skipped)} of {len(source)} images: {key} {why}, …")
    return change


def _told(change: "IndexChange", out: Path) -> str:
    built = f"{out} is built anew: {change.rebuilt}\n" if change.rebuilt else ""
    resumed = f", {change.resumed} of them before the interruption" if change.resumed else ""
    fit, graph = change.graph, ""
    if fit is not None:
        graph = (
            f"\nmethod hnsw finds {fit.recall:.3f} of the 10 nearest, and compares {fit.share:.1%} "
            f"of the images (ef {fit.ef})"
        )
    return (
        f"{built}{change.added + change.kept} images -> {out} "
        f"({change.added} embedded{resumed}, {change.kept} kept, {change.removed} removed){graph}"
    )
