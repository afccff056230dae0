"""What a data set holds: its files, sizes, classes, pixels, copies, and likely label errors."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.inspection.copies import Copies, find_copies
from vision_jax.inspection.files import Files, advice_on_bad_files, count_skipped, read_files
from vision_jax.inspection.label_errors import Suspect, find_label_errors
from vision_jax.inspection.pixels import Pixels, read_pixels
from vision_jax.run.run import Run
from vision_jax.search.arrays import without_direction
from vision_jax.tasks.base import Classifies

PIXEL_THRESHOLD, EMBEDDING_THRESHOLD = 0.998, 0.999


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """What `inspect` found.

    Attributes:
        source: the images, all splits one after the other.
        skipped: how many bad files were left out.
        splits: (N,) the name of each image's split.
        files: what their headers say.
        pixels: what their pixels say.
        exact: groups of equal images.
        near: groups of images that are nearly but not all equal.
        threshold: the cosine from which two images are nearly equal.
        compared_by: what the cosine was taken of.
        lost: the images whose embedding is zero, NaN or infinite, which can neither be compared nor
            judged; empty without a run.
        suspects: the likeliest label errors; None without a run or without labels.
    """

    source: Source
    skipped: int
    splits: Shaped[np.ndarray, " images"]
    files: Files
    pixels: Pixels
    exact: list[Copies]
    near: list[Copies]
    threshold: float
    compared_by: str
    lost: Integer[np.ndarray, " lost"]
    suspects: list[Suspect] | None

    @property
    def labels(self) -> Integer[np.ndarray, " images"] | None:
        """The label of each image (N,), or None."""
        return self.pixels.labels


def inspect(
    source: Source,
    *,
    files: Files | None = None,
    threshold: float | None = None,
    run: Run | None = None,
) -> Inspection:
    """Read all images of a source once and survey them.

    Args:
        source: the images, such as `open_splits` returns.
        files: what `read_files` found, if already known.
        threshold: cosine from which two images are nearly equal, in (0, 1]; by default 0.998 for
            16x16 grey pixels minus their mean, and 0.999 for a run's embeddings.
        run: a trained run whose embeddings compare images and judge labels.

    Returns:
        An `Inspection`.

    Raises:
        InputError: the threshold is out of range, an image cannot be read, or the run does not
            take such images.
    """
    if threshold is None:
        threshold = PIXEL_THRESHOLD if run is None else EMBEDDING_THRESHOLD
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be in (0, 1]")
    if run is not None and source.image_shape != run.info.image_shape:
        raise InputError(
            f"{source.name} is read as {source.image_shape}; the run in {run.workdir} takes "
            f"{run.info.image_shape}"
        )
    with advice_on_bad_files():
        files = read_files(source) if files is None else files
        pixels = read_pixels(source)
    vectors, compared_by = pixels.thumbnails, "16x16 grey pixels minus their mean"
    suspects, lost = None, np.zeros(0, np.int64)
    if run is not None:
        vectors = run.embed(source)
        compared_by = f"embeddings by {run.workdir}, step {run.step}"
        lost = without_direction(vectors)
        if pixels.labels is not None and len(source) > 1:
            # Only a classifier of these classes is asked, and one that is imported has seen none.
            asked = isinstance(run.task, Classifies) and run.config.trains
            seen = trained_on(run, pixels.digests) if asked else np.zeros(len(source), bool)
            suspects = find_label_errors(run, source, pixels.labels, vectors, seen)
    splits = np.array(source.splits())
    exact, near = find_copies(
        pixels.digests, vectors, threshold, splits=splits, labels=pixels.labels
    )
    return Inspection(
        source,
        count_skipped(source),
        splits,
        files,
        pixels,
        exact,
        near,
        threshold,
        compared_by,
        lost,
        suspects,
    )


def trained_on(run: Run, digests: Sequence[bytes]) -> Bool[np.ndarray, " images"]:
    """Tell which images a run was trained on, by their pixels, whatever their name or format.

    Args:
        run: the run whose training split is read.
        digests: (N,) a SHA-256 of each image's pixels, as in `Pixels`.

    Returns:
        (N,) bool.

    Raises:
        InputError: the training images are no longer there.
    """
    known = set(read_pixels(run.source(run.splits.train)).digests)
    return np.array([digest in known for digest in digests])
