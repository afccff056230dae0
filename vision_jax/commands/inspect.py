"""Show what a data set holds."""

from pathlib import Path
from typing import Any, Literal

import tyro

from vision_jax.commands.arguments import parse_checkpoint
from vision_jax.errors import InputError


def inspect(
    data: tyro.conf.Positional[str],
    splits: tuple[str, ...] = ("all",),
    data_dir: str | None = None,
    manual_dir: Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    bad_files: Literal["error", "skip"] | None = None,
    links: bool = False,
    truncated: Literal["error", "use"] | None = None,
    threshold: float | None = None,
    workdir: Path | None = None,
    checkpoint: str = "best",
    out: Path = Path("inspect.html"),
    json: Path | None = None,
) -> None:
    """Show what a data set holds: sizes, classes, pixels, copies, and likely label errors.

    Prints counts, sizes, class balance, the mean and deviation to train with, and duplicate images,
    those with different labels first; writes a page with pictures. With a run, its embeddings
    compare the images, and images whose labels are likely wrong are listed.
    Examples: vision-jax inspect ~/photos --image-size 64
    and: vision-jax inspect fashion_mnist --splits train --workdir runs/fashion

    Args:
        data: A folder of images, a listing, or a data set's name.
        splits: Parts to inspect, in tfds's slicing syntax. Default: all splits.
        data_dir: Where prepared data sets live, a folder or gs://BUCKET/FOLDER. Default: the run's;
            without one $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        manual_dir: Folder with manually downloaded files.
        image_size: Size in pixels, a square's side or height and width: images are scaled, then
            centre-cropped. Default: the run's or the set's own; where a set has many, the median
            shorter side, at most 224.
        channels: 1 for grey, 3 for RGB. Default: the run's or the set's own.
        bad_files: Unreadable images: stop and name them, or look for them first and skip them, with
            a warning. Default: the run's setting, else error.
        links: Follow symbolic links that lead out of the folder, and links to folders.
        truncated: JPEG files whose last bytes are missing: treat them as bad, or use what is there.
            Default: the run's setting, else error.
        threshold: Cosine from which two images are near duplicates, in (0, 1]. Default: 0.998 for
            16x16 grey pixels minus their mean, where 0.99 finds more copies of photographs; 0.999
            for a run's embeddings.
        workdir: Run that takes such images.
        checkpoint: Of that run: `best` by the validation metric, `last`, or a step.
        out: HTML page to write.
        json: File to write all findings to, with every image's key.
    """
    from vision_jax.export.write import check_out
    from vision_jax.reports.searches import PAGES

    check_out(out, PAGES)
    if json is not None and not json.parent.is_dir():
        raise InputError(f"json is {str(json)!r}; the folder {json.parent} must exist")
    if channels not in (None, 1, 3):
        raise InputError(f"channels is {channels}; it must be 1 or 3")
    from vision_jax.files import write_text
    from vision_jax.inspection.files import open_splits
    from vision_jax.inspection.survey import inspect as survey
    from vision_jax.inspection.tables import summary, to_json
    from vision_jax.reports.inspection import write_inspection
    from vision_jax.run.run import load_run

    resize: dict[str, Any] = {}
    run = None if workdir is None else load_run(workdir, parse_checkpoint(checkpoint))
    if run is not None:
        height, width, depth = run.info.image_shape
        if image_size is None:
            image_size = height if height == width else (height, width)
        crop, interpolation, fit = run.config.data.resize
        resize = {"crop": crop, "interpolation": interpolation, "fit": fit}
        channels, data_dir = channels or depth, data_dir or run.config.data.data_dir
        bad_files = bad_files or run.config.data.bad_files
        links, truncated = links or run.config.data.links, truncated or run.config.data.truncated
    source, files = open_splits(
        data,
        splits,
        data_dir=data_dir,
        manual_dir=manual_dir,
        image_size=image_size,
        channels=channels,
        bad_files=bad_files or "error",
        links=links,
        truncated=truncated or "error",
        **resize,
    )
    found = survey(source, files=files, threshold=threshold, run=run)
    print(summary(found))
    write_inspection(found, out, run)
    print(f"page -> {out}")
    if json is not None:
        write_text(json, to_json(found))
        print(f"findings -> {json}")
