"""Find the nearest images in an index."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tyro

from vision_jax.errors import InputError
from vision_jax.search.methods import METHODS, check_method

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int

    from vision_jax.gallery import Hit, Queries
    from vision_jax.run.run import Run
    from vision_jax.search import CosineIndex

    Method = str
else:
    Method = tyro.extras.literal_type_from_choices(METHODS)

NEIGHBOURS = 10
_EXACT = ("exact", "sharded")
_PICTURES = (".png", ".html", ".htm")
_NAMED = 3  # near-duplicates of a hit


class _Asked(NamedTuple):
    """What is looked up: images, indexed images, a part of an image, or examples."""

    images: Sequence[Path]
    keys: Sequence[str]
    like: Sequence[str]
    unlike: Sequence[str]
    weight: float
    box: tuple[float, float, float, float] | None

    def check(self) -> None:
        """Refuse what does not go together."""
        from vision_jax.search.examples import check_weight

        images, keys, like = len(self.images), len(self.keys), len(self.like)
        if sum(map(bool, (images, keys, like))) != 1:
            raise InputError(
                f"{images} images and {keys} keys to look up were given, and {like} examples of "
                "what to find; some of one kind are needed"
            )
        if self.box is not None and images != 1:
            raise InputError(f"box is of one image; {images} images and {keys} keys are given")
        if self.unlike and not like:
            raise InputError(f"unlike is {self.unlike[0]!r}, and like is empty; 1 is needed")
        check_weight(self.weight)

    def queries(self, index: "CosineIndex", run: "Run | None") -> "Queries":
        """Return the vectors to search for; only what is indexed needs no run."""
        from vision_jax import gallery

        if self.keys:
            return gallery.key_queries(index, self.keys)
        if self.like or run is None:
            return gallery.example_query(index, run, self.like, self.unlike, weight=self.weight)
        if self.box is not None:
            return gallery.region_query(index, run, self.images[0], self.box)
        return gallery.image_queries(index, run, self.images)


def search(
    index: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]] = (),
    keys: tuple[str, ...] = (),
    like: tuple[str, ...] = (),
    unlike: tuple[str, ...] = (),
    weight: float = 0.5,
    k: int | None = None,
    where: tuple[str, ...] = (),
    min_score: float | None = None,
    fold: float | None = None,
    mmr: float | None = None,
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
    and, for more like two images and less like a third: vision-jax search photos.index --like
    a.jpg b.jpg --unlike c.jpg

    Args:
        index: File that `vision-jax index` wrote, or its folder of shards.
        images: Image files to look up.
        keys: Indexed images to look up, each by its key as a search prints it; each leaves itself
            out.
        like: Look up one thing by examples, image files or keys: what is like all of these.
        unlike: Examples, image files or keys, of what it must not be like.
        weight: How much the unlike examples count: looked up is the mean of the like vectors less
            this many times the mean of the unlike ones.
        k: How many neighbours of each. Default: 10, or as many as may be found.
        where: Conditions on what may be found: FIELD=VALUE, or FIELD<VALUE and with <=, > or >=, or
            FIELD=LOW..HIGH. Fields are label, split and key; of photographs also taken, camera,
            latitude, longitude, folder and modified, as far as a file has them. A shorter date
            stands for all of its time. All must hold, but of one field with = any. Quote what
            holds < or >, which mean files to a shell: --where "taken>=2024-05" latitude=40..50
        min_score: Least cosine in [-1, 1]: what is less similar is not found. How right such hits
            are is printed, if `vision-jax evaluate` has measured the network on the same data.
        fold: Cosine in (0, 1], such as 0.98, from which two images are nearly the same: of each
            group of these only the best is shown, with the names of others.
        mmr: Show hits that differ from each other, by maximal marginal relevance with this lambda
            in [0, 1]: 1 is the plain search, 0.5 weighs likeness to what was asked for against
            likeness to what is shown already.
        method: How to search: `exact`; `sharded`, exact too, over all devices; `approximate`, the
            faster of the next two from 10,000 images on; `hnsw`, approximate, on the CPU, by a
            graph that `index --method hnsw` keeps in the file (extra `ann`); `inverted_file`,
            approximate; or `approx_max_k`, approximate, fast on TPU only.
        box: Search by a part of the one given image: its left, top, right and bottom edge, X0 Y0 X1
            Y1, in pixels of the file, or in fractions if none is above 1. Needs a network that
            averages a feature map, such as resnet18 or efficientnet_lite0.
        workdir: Folder of the run that made the index, if it has moved since.
        picture: File to draw the queries and their neighbours into: a .png, or an .html, a page in
            which long names wrap.
        explain: Draw each query beside each of its neighbours, with maps of the parts that match.
    """
    # Imports make objects that stay; seeking garbage among them, then or later, takes a tenth of a
    # search.
    gc.disable()
    from vision_jax import gallery

    gc.freeze()
    gc.enable()
    from vision_jax.search.diversity import check_mmr
    from vision_jax.search.duplicates import check_threshold
    from vision_jax.search.min_score import check_min_score

    _check_picture(picture, images)
    asked = _Asked(images, keys, like, unlike, weight, box)
    if explain and picture is None:
        raise InputError("explain is True, but picture is None; a file to draw into is needed")
    if explain and box is not None:
        raise InputError(f"explain is True and box is {box}; only whole images are explained")
    if explain and like:
        raise InputError(f"explain is True and like is {like[0]!r}; images or keys are needed")
    asked.check()
    check_min_score(min_score)
    check_mmr(mmr)
    check_method(method)
    if fold is not None:
        check_threshold(fold, "fold")
    loaded = gallery.load_index(index, method=method)
    allowed = gallery.select_ids(loaded, where)
    _neighbours(k, allowed, [])
    run = None
    if images or not gallery.has_keys(loaded, [*like, *unlike]):
        run = _load_run(loaded, workdir)
    queries = asked.queries(loaded, run)
    hits = gallery.find_hits(
        loaded,
        queries,
        _neighbours(k, allowed, queries.leave_out),
        where=allowed if where else None,
        min_score=min_score,
        fold=fold,
        mmr=mmr,
        method=method,
    )
    for name, line in zip(queries.names, hits, strict=True):
        print(name)
        _print_hits(line, min_score)
    plain = not (like or where or box) and fold is None and mmr is None and method in _EXACT
    if min_score is not None and plain:
        _print_meaning(loaded, workdir, min_score)
    if picture is not None and explain:
        from vision_jax.reports.matches import write_search_matches

        run = run or _load_run(loaded, workdir)
        ids = gallery.as_found(hits)[1]
        shown = [row["key"] for row in queries.shown if isinstance(row, dict)]
        for note in write_search_matches(picture, run, loaded, images, shown, ids):
            print(f"note: {note}")
        print(f"picture -> {picture}")
    elif picture is not None:
        _draw(picture, loaded, workdir, queries, hits)


def _check_picture(picture: Path | None, images: Sequence[Path]) -> None:
    if picture is None:
        return
    from vision_jax.export.write import check_out

    check_out(picture, _PICTURES, "picture")
    if any(image.exists() and picture.exists() and picture.samefile(image) for image in images):
        raise InputError(f"picture is {str(picture)!r}, which is looked up; name another file")


def _print_hits(hits: "Sequence[Hit]", min_score: float | None) -> None:
    for place, hit in enumerate(hits, start=1):
        label = hit.row.get("label", "")
        print(f"  {place:>3}  {hit.score:+.4f}  {label:<14}  {hit.row['key']}")
        if hit.others:
            names = ", ".join(row["key"] for row in hit.others[:_NAMED])
            more = len(hit.others) - _NAMED
            print(f"       nearly the same: {names}" + (f" and {more} more" if more > 0 else ""))
    if not hits:
        print("  nothing" + ("" if min_score is None else f" of {min_score} or more"))


def _print_meaning(index: "CosineIndex", workdir: Path | None, min_score: float) -> None:
    """Print how right such hits were on the test set, if that was measured for this index."""
    from vision_jax.evaluation.scores import read_scores
    from vision_jax.gallery.origin import origin_of

    origin = origin_of(index)
    if measured := read_scores(Path(workdir or origin.workdir), origin):
        print(measured.sentence(min_score))


def _draw(
    picture: Path,
    index: "CosineIndex",
    workdir: Path | None,
    queries: "Queries",
    hits: "Sequence[Sequence[Hit]]",
) -> None:
    from vision_jax.gallery import as_found
    from vision_jax.gallery.originals import Originals
    from vision_jax.reports.searches import write_found
    from vision_jax.visual.thumbnails import file_thumbnail

    originals = Originals(index, workdir)
    asked = (
        originals.thumbnail(shown) if isinstance(shown, dict) else file_thumbnail(shown)
        for shown in queries.shown
    )
    names = [shown["key"] if isinstance(shown, dict) else str(shown) for shown in queries.shown]
    for note in write_found(picture, index, originals, asked, names, *as_found(hits)):
        print(f"note: {note}")
    print(f"picture -> {picture}")


def _load_run(index: "CosineIndex", workdir: Path | None) -> "Run":
    from vision_jax.gallery.origin import origin_of
    from vision_jax.run.run import load_run

    origin = origin_of(index)
    return load_run(workdir or origin.workdir, origin.step)


def _neighbours(
    k: int | None, allowed: "Int[np.ndarray, ' items']", leave_out: Sequence[Sequence[int]]
) -> int:
    """Return how many to find: as many as asked for, if there are as many."""
    import numpy as np

    most = len(allowed) - max((int(np.isin(allowed, ids).sum()) for ids in leave_out), default=0)
    if most < 1:
        raise InputError("nothing is found but the image itself; 2 images or more are needed")
    if k is None:
        k = min(NEIGHBOURS, most)
    if not 1 <= k <= most:
        raise InputError(f"k is {k}; it must be in [1, {most}], as many as may be found")
    return k
