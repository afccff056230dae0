"""Write the index of a source, over one process or many, from what is embedded already."""

import dataclasses
import secrets
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vision_jax.config import BadFiles
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.files import TEMPORARY
from vision_jax.gallery.indexing import IndexChange, describe, empty_index
from vision_jax.gallery.lookup import load_index
from vision_jax.gallery.origin import Origin, entries, origin_of, views_of
from vision_jax.gallery.parts import Parts, Place, Row, Share, Vectors
from vision_jax.gallery.shards import (
    count_shards,
    is_sharded,
    publish,
    shard_range,
    write_shard,
)
from vision_jax.gallery.shares import OpenPart, Watch, embed_share, openable, share_of
from vision_jax.parallel.processes import first_alone, gathered, together
from vision_jax.run.run import Run
from vision_jax.run.views import check_views
from vision_jax.search import CosineIndex
from vision_jax.search.graph import Fit
from vision_jax.search.index_file import Content
from vision_jax.search.methods import check_kept


def write_index(
    run: Run,
    source: Source,
    path: str | Path,
    *,
    bad_files: BadFiles = "error",
    views: int | None = None,
    shards: int | None = None,
    method: str | None = None,
    recall: float | None = None,
) -> IndexChange:
    """Write the index of a source to a file, starting from what the file already holds.

    What is embedded goes into the folder `PATH.parts` every few seconds, until the index is
    written: a call that was killed is resumed by the same call. All processes that
    `jax.distributed` joined call it together; each embeds its own part of the images.

    Args:
        run: The trained run.
        source: Images in the run's shape.
        path: The file; replaced only once the new one is whole. An index by another network or of
            another source is built anew.
        bad_files: Images that cannot be read: raise, or leave them out.
        views: How many views of each image to average, see `Run.embed`; by default those of the
            index that the file holds, or 1. An index of another number is built anew.
        shards: Write a folder of this many files, which `load_index` reads as one index; by default
            one file, or as many as the folder has.
        method: "hnsw": write its graph too, so that an approximate search need not build it. By
            default a graph is written if the file's index has one.
        recall: Which share of the 10 nearest the graph is to find, in (0, 1]; 0.97 by default.

    Returns:
        How many images were added, removed and kept, and whether an older index was built anew.

    Raises:
        InputError: If the file is no index, or one that was not made here or is merged, the images
            cannot be embedded, another process writes the same index, or `method` is not one that
            a file keeps, or takes a package that is missing.
    """
    check_views(1 if views is None else views)
    check_kept(method, recall)
    path, process = Path(path), run.parallel.process
    run = run.alone() if process[1] > 1 else run
    shards = together(partial(_shard_count, path, shards))
    if shards is not None and method is not None:
        raise InputError(f"method is {method!r} and shards is {shards}; one file keeps a graph")
    older, reason = together(partial(_older, run, source, path, views))
    held, averaged = (0, views or 1) if older is None else (len(older), views_of(older))
    origin = Origin.of(run, source, averaged)
    fit: Fit | None = None

    def save() -> None:
        nonlocal fit
        index = _whole(plan, made)
        if method is not None:
            index.build(method, recall=recall)
        index.save(path)
        fit = index.graph

    with closing(Parts(path, origin, process)) as parts:
        first_alone(parts.open)
        share, part = together(partial(_embed, run, source, parts, older, averaged, bad_files))
        shares = parts.shares() if process[1] > 1 else [share]
        plan, made = _plan(run, source, origin, older, shares), _Embedded(parts, part)
        if shards is None:
            first_alone(save)
        else:
            _write_shards(path, shards, plan, made)
        first_alone(parts.remove)
    skipped = {key: why for share in shares for key, why in share.skipped.items()}
    resumed = sum(share.resumed for share in shares)
    added, kept = len(plan.fresh), len(plan.kept)
    counts = added, held - kept, kept
    return IndexChange(*counts, rebuilt=reason, skipped=skipped, resumed=resumed, graph=fit)


def _shard_count(path: Path, shards: int | None) -> int | None:
    if shards is not None and shards < 1:
        raise InputError(f"shards is {shards}; it must be at least 1")
    if is_sharded(path):
        return shards or count_shards(path)
    if shards is not None and path.is_file():
        raise InputError(f"shards is {shards}, but {path} is a file; another name is needed")
    if shards is None and path.is_dir():
        raise InputError(f"{path} is a folder; the name of a file to write, or shards, is needed")
    return shards


def _unfinished(path: Path) -> bool:
    """Whether a folder holds no more than shards whose writing was interrupted."""
    return not is_sharded(path) and all(
        file.name.startswith(("shard-", TEMPORARY)) for file in path.iterdir()
    )


def _older(
    run: Run, source: Source, path: Path, views: int | None
) -> tuple[CosineIndex | None, str | None]:
    """Load the index that a file holds, or say why it cannot be used."""
    if not path.exists() or (path.is_dir() and _unfinished(path)):
        return None, None
    index = load_index(path)
    try:
        origin = origin_of(index)
    except InputError as error:
        raise InputError(f"{path} is not replaced: {error}, or another file") from error
    if origin.others:
        raise InputError(
            f"{path} is not replaced: it is merged, of {len(origin.sources)} sources; index these "
            "on their own and merge them again, or name another file"
        )
    reason = origin.difference(Origin.of(run, source, views or origin.views))
    return (None, reason) if reason else (index, None)


def _embed(
    run: Run,
    source: Source,
    parts: Parts,
    older: CosineIndex | None,
    views: int,
    bad_files: BadFiles,
) -> tuple[Share, OpenPart]:
    """Embed what is new of this process's images, and wait until the others have theirs."""
    mine, alone = share_of(run, source, parts.process), parts.process[1] == 1
    try:
        own, faults = source if alone else source.take(mine), dict[str, str]()
        if bad_files == "skip":
            own, faults = openable(own)
        there, known = _entries(older), parts.known()
        rows = describe(own)
        new = [i for i, row in enumerate(rows) if _entry(row) not in there]
        fresh = [i for i in new if _entry(rows[i]) not in known]
        total = len(fresh) if alone else len(source) - len(there) - len(known)
        with closing(Watch(parts, max(total, len(fresh)))) as watch:
            part, bad = embed_share(
                run, own, rows, fresh, parts, watch, views=views, bad_files=bad_files
            )
            kept = [row for i, row in enumerate(rows) if i not in bad]
            skipped = faults | {own.key(i): why for i, why in bad.items()}
            share = Share(kept, skipped, len(new) - len(fresh))
            if not alone:
                part.write()
                parts.finish(share)
                watch.wait()
    except BaseException as error:
        if not alone:
            parts.fail(error)
        raise
    return share, part


class _Plan(NamedTuple):
    """What an index is made of: images of the older one in their order, then new ones.

    Attributes:
        empty: an index without images.
        older: the older index; None without.
        kept: metadata of its images that stay, by their ids.
        fresh: metadata of the new ones.
    """

    empty: CosineIndex
    older: CosineIndex | None
    kept: dict[int, Row]
    fresh: list[Row]


def _plan(
    run: Run, source: Source, origin: Origin, older: CosineIndex | None, shares: Sequence[Share]
) -> _Plan:
    there = _entries(older)
    rows = [row for share in shares for row in share.rows]
    found = {there[_entry(row)]: row for row in rows if _entry(row) in there}
    fresh = [row for row in rows if _entry(row) not in there]
    ids = [] if older is None else older.ids.tolist()
    kept = {item: found[item] for item in ids if item in found}
    return _Plan(empty_index(run, source, origin.views), older, kept, fresh)


@dataclasses.dataclass(frozen=True)
class _Embedded:
    """The vectors of new images: in the parts, and in the one that was not written."""

    parts: Parts
    last: OpenPart

    @cached_property
    def _places(self) -> dict[tuple[str, str], Place]:
        return self.parts.places()

    def vectors(self, rows: Sequence[Row], width: int) -> Vectors:
        """Return the vectors of images by their metadata."""
        there = {_entry(row): i for i, row in enumerate(self.last.rows)}
        vectors = np.empty((len(rows), width), np.float32)
        held = np.array([there.get(_entry(row), -1) for row in rows])
        if (held >= 0).any():
            vectors[held >= 0] = self.last.vectors[held[held >= 0]]
        if (held < 0).any():
            missing = np.flatnonzero(held < 0)
            places = [self._places[_entry(rows[i])] for i in missing.tolist()]
            vectors[missing] = self.parts.vectors(places, width)
        return vectors


def _whole(plan: _Plan, made: _Embedded) -> CosineIndex:
    """Make the index in one piece: what is kept, whose metadata may have changed, and the new."""
    index = plan.empty
    if plan.older is not None:
        about, index = index.about, plan.older
        index.remove([item for item in index.ids.tolist() if item not in plan.kept])
        index.set_metadata(list(plan.kept), list(plan.kept.values()))
        index.about = about  # the run's folder may have moved
    if plan.fresh:
        index.add(made.vectors(plan.fresh, index.dim), metadata=plan.fresh)
    return index


def _shard(plan: _Plan, old: Content, within: range, made: _Embedded) -> Content:
    """Make a shard: those of the index's images whose places in its order are within a range."""
    start, following = len(plan.kept), old.notes["next"]
    ids = list(plan.kept)[within.start : within.stop]
    chosen = np.flatnonzero(np.isin(old.ids, ids))
    items = {str(item): plan.kept[item] for item in ids}
    notes = {"about": plan.empty.about, "items": items, "next": following}
    index = CosineIndex.from_content(
        Content(old.dtype, old.values[chosen], old.scale[chosen], old.ids[chosen], notes)
    )
    first = max(within.start - start, 0)
    rows = plan.fresh[first : max(within.stop - start, 0)]
    if rows:
        new = following + first + np.arange(len(rows))
        index.add(made.vectors(rows, index.dim), new, rows)
    content = index.to_content()
    return content._replace(notes=content.notes | {"next": following + len(plan.fresh)})


def _write_shards(path: Path, shards: int, plan: _Plan, made: _Embedded) -> None:
    """Write a folder of shards, each process some of them."""
    process, processes = made.parts.process
    first_alone(partial(_make_folder, path))
    token = gathered(np.frombuffer(secrets.token_bytes(4), np.uint8))[0].tobytes().hex()
    old = (plan.empty if plan.older is None else plan.older).to_content()
    count = len(plan.kept) + len(plan.fresh)

    def write_own() -> None:
        for number in range(process, shards, processes):
            within = shard_range(count, shards, number)
            write_shard(path, number, shards, token, _shard(plan, old, within, made))

    together(write_own)
    shape = count, old.values.shape[1]
    first_alone(partial(publish, path, shards, token, shape, old.dtype))


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def _entries(index: CosineIndex | None) -> dict[tuple[str, str], int]:
    """Return the ids of an index's images by key and digest."""
    if index is None or not len(index):
        return {}
    return {_entry(row): item for item, row in entries(index)}


def _entry(row: Row) -> tuple[str, str]:
    return row["key"], row["digest"]
