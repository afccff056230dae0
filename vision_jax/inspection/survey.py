"""What a data set holds: its files, sizes, classes, pixels, copies, and likely label errors."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Shaped, UInt8
from tqdm import tqdm

from vision_jax.data.catalog import open_source
from vision_jax.data.loader import Loader, to_float
from vision_jax.data.sources import Concatenated, Source
from vision_jax.errors import InputError
from vision_jax.inspection.files import Files, read_files
from vision_jax.inspection.label_errors import Suspect, find_label_errors
from vision_jax.run.run import Run
from vision_jax.search import near_duplicates

THUMBNAIL = 16
PIXEL_THRESHOLD, EMBEDDING_THRESHOLD = 0.998, 0.999
_MAX_DEFAULT_SIZE = 224
_BATCH_PIXELS = 2**22  # pixels that are decoded at once
_CONSTANT = 0.5 / 255  # no pixel of one single grey is farther from the mean


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What one pass over all decoded pixels found.

    Attributes:
        histograms: by split, how often each channel takes each value, (C, 256) int64.
        labels: (N,) the label of each image, or None.
        digests: a SHA-256 of each image's pixels.
        thumbnails: (N, D) float32, each image in grey, brought to at most 16x16, less its mean: so
            that neither brightness nor contrast counts. An image of one single grey is 0.
    """

    histograms: dict[str, Integer[np.ndarray, "channels 256"]]
    labels: Integer[np.ndarray, " images"] | None
    digests: list[bytes]
    thumbnails: Float[np.ndarray, "images dim"]


@dataclasses.dataclass(frozen=True)
class Copies:
    """Images that are the same, or nearly.

    Attributes:
        rows: which images, at least 2, ascending.
        cosines: how much each is like the first, in [-1, 1].
        across_labels: whether they have different labels.
        across_splits: whether they are in different splits.
    """

    rows: tuple[int, ...]
    cosines: tuple[float, ...]
    across_labels: bool
    across_splits: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """What `inspect` found.

    Attributes:
        source: the images, all splits one after the other.
        splits: (N,) the name of each image's split.
        files: what their headers say.
        pixels: what their pixels say.
        exact: groups of equal images.
        near: groups of images that are nearly but not all equal.
        threshold: the cosine from which two images are nearly equal.
        compared_by: of what the cosine was taken.
        suspects: the likeliest label errors; None without a run or without labels.
    """

    source: Source
    splits: Shaped[np.ndarray, " images"]
    files: Files
    pixels: Pixels
    exact: list[Copies]
    near: list[Copies]
    threshold: float
    compared_by: str
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
    """Reads all images of a source once and says what there is to know of them.

    Args:
        source: the images, such as `open_splits` gives.
        files: what `read_files` found, if that is known already.
        threshold: cosine from which two images are nearly equal, in (0, 1]; by default 0.998 of
            16x16 grey pixels less their mean, and 0.999 of a run's embeddings.
        run: a trained network in whose embeddings images are compared, and labels judged.

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
    files = read_files(source) if files is None else files
    pixels = read_pixels(source)
    vectors, compared_by = pixels.thumbnails, "16x16 grey pixels less their mean"
    suspects = None
    if run is not None:
        vectors = run.embed(source)
        compared_by = f"embeddings by {run.workdir}, step {run.step}"
        if pixels.labels is not None and len(source) > 1:
            seen = trained_on(run, pixels.digests)
            suspects = find_label_errors(run, source, pixels.labels, vectors, seen)
    splits = np.array(source.splits())
    exact, near = find_copies(
        pixels.digests, vectors, threshold, splits=splits, labels=pixels.labels
    )
    return Inspection(source, splits, files, pixels, exact, near, threshold, compared_by, suspects)


def open_splits(
    name: str,
    splits: Sequence[str] = ("all",),
    *,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    image_size: int | None = None,
    channels: int | None = None,
) -> tuple[Source, Files]:
    """Opens the splits of a data set or folder, whatever the sizes of its images.

    Args:
        name: as in `open_source`.
        splits: tfds's slicing syntax, one or several; `all` stands for every named split.
        data_dir: as in `open_source`.
        manual_dir: as in `open_source`.
        image_size: side in pixels to resize and crop to; by default the images' own size or, if
            they have many, their median shorter side, at most 224.
        channels: 1 for grey, 3 for RGB; by default the set's own and, for a folder, grey if all
            its images are, else RGB.

    Returns:
        (source, files): the splits one after the other, and what the headers of their files say.

    Raises:
        InputError: there is no such data set, folder or split, or a file is no image.
    """

    places: dict[str, Any] = {"data_dir": data_dir, "manual_dir": manual_dir}
    # Headers are read whatever the size; a size must be given where a set has many.
    whole = open_source(name, "+".join(splits), image_size=1, channels=channels, **places)
    if tuple(splits) == ("all",):
        splits = list(dict.fromkeys(whole.splits()))

    def open_all(size: int | None, depth: int | None) -> Source:
        # What is odd about a folder was said above.
        wanted: dict[str, Any] = {"image_size": size, "channels": depth, "bad_files": "later"}
        return Concatenated.of([open_source(name, s, **places, **wanted) for s in splits])

    files = read_files(open_all(image_size or 1, channels))
    if image_size is None and len(files.sizes) > 1:
        shorter = np.repeat([min(size) for size in files.sizes], list(files.sizes.values()))
        image_size = min(int(np.median(shorter)), _MAX_DEFAULT_SIZE)
    if channels is None and files.is_grey:
        channels = 1
    return open_all(image_size, channels), files


def read_pixels(source: Source) -> Pixels:
    """Decodes every image once, a few at a time, with a progress bar if it takes some seconds.

    Args:
        source: the images.

    Returns:
        A `Pixels`.

    Raises:
        InputError: an image cannot be read.
    """
    height, width, channels = source.image_shape
    at_once = min(max(_BATCH_PIXELS // (height * width), 1), 256, len(source))
    loader = Loader(source, at_once, train=False, on_device_bytes=-1)
    splits, seen = np.array(source.splits()), 0
    histograms: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((channels, 256), np.int64))
    digests: list[bytes] = []
    thumbnails, labels = [], []
    with tqdm(total=len(source), desc=f"reading {source.name}", unit="img", delay=2) as bar:
        for item in loader.items(0, loader.steps_per_epoch):
            count = int(item["mask"].sum())
            images = item["image"][:count]
            part = splits[seen : seen + count]
            for split in np.unique(part):
                histograms[str(split)] += _histograms(images[part == split])
            digests += [hashlib.sha256(image.tobytes()).digest() for image in images]
            thumbnails.append(np.asarray(_thumbnails(item["image"]))[:count])
            if "label" in item:
                labels.append(item["label"][:count])
            seen += count
            bar.update(count)
    known = np.concatenate(labels) if labels else None
    return Pixels(dict(histograms), known, digests, np.concatenate(thumbnails))


def trained_on(run: Run, digests: Sequence[bytes]) -> Bool[np.ndarray, " images"]:
    """Which images a run was trained on, by their pixels: whatever they are called or stored as.

    Args:
        run: whose training split is read.
        digests: (N,) a SHA-256 of each image's pixels, as in `Pixels`.

    Returns:
        (N,) bool.

    Raises:
        InputError: the training images are no longer there.
    """
    known = set(read_pixels(run.source(run.config.data.train_split)).digests)
    return np.array([digest in known for digest in digests])


def mean_and_deviation(
    histograms: Integer[np.ndarray, "channels 256"],
) -> tuple[list[float], list[float]]:
    """Each channel's mean and deviation of pixels in [0, 1], exact until the last rounding.

    Args:
        histograms: (C, 256) how often each channel takes each value.

    Returns:
        (means, deviations), a float per channel; the deviation is that of all pixels (1/N).
    """
    means, deviations = [], []
    for row in histograms.tolist():
        # Python's integers neither round nor overflow, however many pixels there are.
        count = sum(row)
        total = sum(value * times for value, times in enumerate(row))
        squares = sum(value * value * times for value, times in enumerate(row))
        means.append(total / (255 * count))
        deviations.append(((count * squares - total * total) / (255 * count) ** 2) ** 0.5)
    return means, deviations


def find_copies(
    digests: Sequence[bytes],
    vectors: Float[np.ndarray, "images dim"],
    threshold: float,
    *,
    splits: Shaped[np.ndarray, " images"],
    labels: Integer[np.ndarray, " images"] | None = None,
) -> tuple[list[Copies], list[Copies]]:
    """Groups the images that are the same, and those that are nearly the same.

    Args:
        digests: what is equal for equal images alone.
        vectors: (N, D), compared by their cosine.
        threshold: cosine from which two images are nearly the same, in (0, 1].
        splits: (N,) the split of each image.
        labels: (N,) the label of each image.

    Returns:
        (exact, near), each with conflicts of labels first, then those across splits, then the
        larger groups. A group whose images are all equal is in `exact` alone.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)

    def copies(rows: Sequence[int], *, equal: bool = False) -> Copies:
        chosen = list(rows)
        likeness = np.ones(len(chosen)) if equal else unit[chosen] @ unit[chosen[0]]
        return Copies(
            tuple(chosen),
            tuple(likeness.tolist()),
            labels is not None and len(np.unique(labels[chosen])) > 1,
            len(np.unique(splits[chosen])) > 1,
        )

    same = defaultdict(list)
    for row, digest in enumerate(digests):
        same[digest].append(row)
    exact = [copies(rows, equal=True) for rows in same.values() if len(rows) > 1]
    near = [
        copies(group.rows.tolist())
        for group in near_duplicates(vectors, threshold)
        if len({digests[row] for row in group.rows}) > 1
    ]
    return _worst_first(exact), _worst_first(near)


def _worst_first(groups: list[Copies]) -> list[Copies]:
    return sorted(
        groups,
        key=lambda g: (not g.across_labels, not g.across_splits, -len(g.rows), g.rows[0]),
    )


def _histograms(
    images: UInt8[np.ndarray, "n height width channels"],
) -> Integer[np.ndarray, "channels 256"]:
    channels = np.moveaxis(images, -1, 0)
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])


@jax.jit
def _thumbnails(images: Integer[Array | np.ndarray, "n h w c"]) -> Float[Array, "n dim"]:
    count, height, width, channels = images.shape
    # Luma, by ITU-R BT.601: JPEG keeps it far better than colour.
    weights = jnp.array([0.299, 0.587, 0.114] if channels == 3 else [1 / channels] * channels)
    grey = to_float(jnp.asarray(images)) @ weights.astype(jnp.float32)
    shape = (count, min(height, THUMBNAIL), min(width, THUMBNAIL))
    rows = jax.image.resize(grey, shape, "linear").reshape(count, -1)
    rows = rows - rows.mean(1, keepdims=True)
    # What rounding leaves of one single grey must not count as a direction.
    constant = jnp.abs(rows).max(1, keepdims=True) < _CONSTANT
    return jnp.where(constant, 0.0, rows)
