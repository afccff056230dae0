"""Show what a data set holds."""

from pathlib import Path

import tyro

from vision_jax.commands.arguments import parse_checkpoint
from vision_jax.errors import InputError


def inspect(
    data: tyro.conf.Positional[str],
    splits: tuple[str, ...] = ("all",),
    data_dir: str | None = None,
    manual_dir: Path | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    threshold: float | None = None,
    workdir: Path | None = None,
    checkpoint: str = "best",
    out: Path = Path("inspect.html"),
    json: Path | None = None,
) -> None:
    """Show what a data set holds: sizes, classes, pixels, copies, and likely label errors.

    Prints counts, sizes, class balance, the mean and deviation to train with, and the images that
    are there twice, those with different labels first; writes a page with samples and all of it to
    look at. Given a run, it compares images by the network's embeddings, and lists the images whose
    labels are likely wrong. Examples: vision-jax inspect ~/photos --image-size 64
    and: vision-jax inspect fashion_mnist --splits train --workdir runs/fashion

    Args:
        data: A folder of images, or a data set's name.
        splits: Which parts, in tfds's slicing syntax. Default: all of its splits.
        data_dir: Where prepared data sets live, a folder or gs://BUCKET/FOLDER. Default: the run's;
            without one $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        manual_dir: Folder with files fetched by hand.
        image_size: Side in pixels: shorter side resized to it, then centre-cropped. Default: the
            run's or the set's own; where a set has many, the median shorter side, at most 224.
        channels: 1 for grey, 3 for RGB. Default: the run's or the set's own.
        threshold: Cosine from which two images are near duplicates, in (0, 1]. Default: 0.998 of
            16x16 grey pixels less their mean, where 0.99 finds more copies of photographs; 0.999
            of a run's embeddings.
        workdir: Folder of a run that takes such images, of any family.
        checkpoint: Of that run: `best` by the validation metric, `last`, or a step.
        out: HTML page to write.
        json: File to write all findings to, with every image's key.
    """
    for name, path in (("--out", out), ("--json", json)):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{name} is {str(path)!r}; the folder {path.parent} must exist")
    if channels not in (None, 1, 3):
        raise InputError(f"--channels is {channels}; it must be 1 or 3")
    if image_size is not None and image_size < 1:
        raise InputError(f"--image-size is {image_size}; it must be at least 1")
    from vision_jax.inspection.survey import inspect as survey
    from vision_jax.inspection.survey import open_splits
    from vision_jax.inspection.tables import summary, to_json
    from vision_jax.reports.inspection import write_inspection
    from vision_jax.run.run import load_run

    run = None if workdir is None else load_run(workdir, parse_checkpoint(checkpoint))
    if run is not None:
        height, width, depth = run.info.image_shape
        image_size = image_size or (height if height == width else None)
        channels, data_dir = channels or depth, data_dir or run.config.data.data_dir
    source, files = open_splits(
        data,
        splits,
        data_dir=data_dir,
        manual_dir=manual_dir,
        image_size=image_size,
        channels=channels,
    )
    found = survey(source, files=files, threshold=threshold, run=run)
    print(summary(found))
    write_inspection(found, out)
    print(f"page -> {out}")
    if json is not None:
        json.write_text(to_json(found))
        print(f"findings -> {json}")
