"""Find the nearest images in an index."""

from pathlib import Path

import tyro

from vision_jax.errors import InputError


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
