"""Find the nearest images in an index."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from vision_jax.errors import InputError
from vision_jax.search.methods import METHODS

if TYPE_CHECKING:
    from vision_jax.run.run import Run
    from vision_jax.search import CosineIndex

    Method = str
else:
    Method = tyro.extras.literal_type_from_choices(METHODS)

NEIGHBOURS = 10


def search(
    index: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]] = (),
    keys: tuple[str, ...] = (),
    k: int | None = None,
    where: tuple[str, ...] = (),
    min_score: float | None = None,
    method: Method = "exact",
    box: tuple[float, float, float, float] | None = None,
    workdir: Path | None = None,
    picture: Path | None = None,
    explain: bool = False,
) -> None:
    """Find the indexed images that are most like the given ones.

    Examples: vision-jax search photos.index seven.png --k 5 --picture found.png
    and, for shoes like an indexed one: vision-jax search garments.index --keys
    fashion_mnist/test/0 --where label=Sneaker "label=Ankle boot" split=test

    Args:
        index: File that `vision-jax index` wrote.
        images: Image files to look up.
        keys: Indexed images to look up, each by its key as a search prints it; each leaves itself
            out.
        k: How many neighbours of each. Default: 10, or as many as may be found.
        where: Conditions on what may be found: FIELD=VALUE, or FIELD<VALUE and with <=, > or >=, or
            FIELD=LOW..HIGH. Fields are label, split and key; of photographs also taken, camera,
            latitude, longitude, folder and modified, as far as a file has them. A shorter date
            stands for all of its time. All must hold, but of one field with = any. Quote what
            holds < or >, which mean files to a shell: --where "taken>=2024-05" latitude=40..50
        min_score: Least cosine in [-1, 1]: what is less similar is not found.
        method: How to search: `exact`; `sharded`, exact too, over all devices; `inverted_file`,
            approximate; or `approx_max_k`, approximate, fast on TPU only.
        box: Search by a part of the one given image: its left, top, right and bottom edge, X0 Y0 X1
            Y1, in pixels of the file, or in fractions if none is above 1. Needs a network that
            averages a feature map, such as resnet18 or efficientnet_lite0.
        workdir: Folder of the run that made the index, if it has moved since.
        picture: File to draw the queries and their neighbours into: a PNG, or a page if it ends in
            .html, in which long names wrap.
        explain: Draw each query beside each of its neighbours, with maps of the parts that match.
    """
    import numpy as np

    from vision_jax.data.decode import printable
    from vision_jax.gallery import lookup, search_region
    from vision_jax.search.min_score import check_min_score

    if picture is not None and not picture.parent.is_dir():
        raise InputError(f"picture is {str(picture)!r}; the folder {picture.parent} must exist")
    if explain and picture is None:
        raise InputError("explain is True, but picture is None; a file to draw into is needed")
    if explain and box is not None:
        raise InputError(f"explain is True and box is {box}; only whole images are explained")
    if bool(images) == bool(keys):
        raise InputError(
            f"{len(images)} images and {len(keys)} keys to look up were given; some images or some "
            "keys are needed"
        )
    if box is not None and len(images) != 1:
        raise InputError(
            f"box is of one image; {len(images)} images and {len(keys)} keys are given"
        )
    check_min_score(min_score)
    loaded = lookup.load_index(index)
    allowed = lookup.select_ids(loaded, where)
    asked = lookup.find_keys(loaded, keys)
    k = _neighbours(k, len(allowed) - int(bool(np.isin(asked, allowed).any())))
    options: Any = {"where": allowed if where else None, "min_score": min_score, "method": method}
    run = None if keys else _load_run(loaded, workdir)
    if run is not None and box is not None:
        found = search_region(loaded, run, images[0], box, k, **options)
    elif run is not None:
        found = lookup.search_images(loaded, run, images, k, **options)
    else:
        found = lookup.search_indexed(loaded, asked, k, **options)
    names = [*map(printable, images), *keys]
    for name, scores, ids in zip(names, *found, strict=True):
        print(name)
        rows = loaded.metadata(ids[ids >= 0])
        for place, (score, row) in enumerate(zip(scores[: len(rows)], rows, strict=True), start=1):
            print(f"  {place:>3}  {score:+.4f}  {row.get('label', ''):<14}  {row['key']}")
        if not rows:
            print(f"  nothing of {min_score} or more")
    if picture is not None and explain:
        from vision_jax.reports.matches import write_search_matches

        run = run or _load_run(loaded, workdir)
        write_search_matches(picture, run, loaded, images, keys, found[1])
        print(f"picture -> {picture}")
    elif picture is not None:
        from vision_jax.gallery.originals import Originals
        from vision_jax.reports.searches import write_found
        from vision_jax.visual.thumbnails import file_thumbnail

        originals = Originals(loaded, workdir)
        rows = loaded.metadata(asked)
        shown = map(originals.thumbnail, rows) if keys else map(file_thumbnail, images)
        for note in write_found(picture, loaded, originals, shown, names, *found):
            print(f"note: {note}")
        print(f"picture -> {picture}")


def _load_run(index: "CosineIndex", workdir: Path | None) -> "Run":
    from vision_jax.gallery.origin import origin_of
    from vision_jax.run.run import load_run

    origin = origin_of(index)
    return load_run(workdir or origin.workdir, origin.step)


def _neighbours(k: int | None, most: int) -> int:
    if most < 1:
        raise InputError("nothing is found but the image itself; 2 images or more are needed")
    if k is None:
        k = min(NEIGHBOURS, most)
    if not 1 <= k <= most:
        raise InputError(f"k is {k}; it must be in [1, {most}], as many as may be found")
    return k
