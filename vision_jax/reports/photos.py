"""A folder of photographs as one HTML page: groups, searches and near-duplicates."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vision_jax.data.decode_all import look_at_all
from vision_jax.gallery.lookup import find_duplicates, load_index
from vision_jax.gallery.photos import Photos
from vision_jax.inspection.tables import counted
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.tasks.base import Classifies
from vision_jax.visual.html import paragraph, table, write_page
from vision_jax.visual.sheets import Shown, shown_html
from vision_jax.visual.thumbnails import source_thumbnail

NEAR = 0.9
"""Cosine from which two photographs count as nearly the same."""
_GROUPS, _SHOWN, _COPIES, _FAULTS = 12, 8, 20, 50  # at most
_NAMES = 3  # classes that describe a group
_IMAGES_A_GROUP = 8  # at least, on average


class _Thumb(NamedTuple):
    """A photograph to show: its place in the source, and what to write below it."""

    place: int
    caption: str


_Row = tuple[str, list[_Thumb]]
_Section = tuple[str, str, list[_Row]]


def write_photos_report(photos: Photos, run: Run, path: Path) -> int:
    """Write a page about an indexed folder of photographs.

    Args:
        photos: what `index_photos` returned.
        run: the run that it was indexed with.
        path: the page; an older one stays until the new one is whole.

    Returns:
        The number of groups of near-duplicates.

    Raises:
        InputError: a photograph can no longer be read.
    """
    index, source = load_index(photos.index), photos.source
    places = {source.key(i): i for i in range(len(source))}
    rows = [places[row["key"]] for row in index.metadata(index.ids)]
    vectors = np.empty((len(source), index.vectors(index.ids).shape[1]), np.float32)
    vectors[rows] = index.vectors(index.ids)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    groups = _groups(units)
    copies = [[places[row["key"]] for row in rows] for _, rows in find_duplicates(index, NEAR)]
    sections = [
        ("Groups", _GROUPED, _group_rows(groups, photos, run)),
        ("Searches", _SEARCHED, _search_rows(groups, index, rows, photos)),
        ("Nearly the same", _COPIED, _copy_rows(copies, units, photos)),
    ]
    name = source.name
    parts = [
        (head, paragraph(text) + _html(lines, photos)) for head, text, lines in sections if lines
    ]
    if photos.change.skipped:
        skipped = [[_short(key, name), why] for key, why in photos.change.skipped.items()]
        parts.append(("Left out", table(("file", "why"), skipped[:_FAULTS])))
    write_page(
        path,
        f"{counted(len(source), 'photograph')} of {name}",
        parts,
        introduction=_next(photos, run),
    )
    return len(copies)


_GROUPED = "Photographs that the network finds alike, the largest group first."
_SEARCHED = "A photograph of each group, and those most like it with their cosine similarity."
_COPIED = f"Photographs with a cosine similarity of {NEAR} or more."


def _next(photos: Photos, run: Run) -> str:
    command = f"vision-jax search {photos.index} IMAGE --picture found.png"
    made = f"Indexed by the network in {run.workdir}. Search with any image:"
    return paragraph(made) + f"<pre>{html.escape(command)}</pre>"


def _groups(units: Float[np.ndarray, "photos features"]) -> list[Int[np.ndarray, " members"]]:
    """Divide photographs by k-means; of each group, the most typical come first."""
    from sklearn.cluster import KMeans

    count = min(_GROUPS, len(units) // _IMAGES_A_GROUP)
    if count < 2:
        return [np.argsort(-units @ units.mean(0), kind="stable")]
    found = KMeans(count, n_init=1, random_state=0).fit(units)
    groups = []
    for number in range(count):
        members = np.flatnonzero(found.labels_ == number)
        near = units[members] @ found.cluster_centers_[number]
        groups.append(members[np.argsort(-near, kind="stable")])
    return sorted((group for group in groups if len(group)), key=len, reverse=True)


def _group_rows(
    groups: Sequence[Int[np.ndarray, " members"]], photos: Photos, run: Run
) -> list[_Row]:
    rows = []
    for group in groups:
        shown = group[:_SHOWN].tolist()
        head = counted(len(group), "photograph")
        if isinstance(run.task, Classifies) and run.info.label_names:
            images = [example["image"] for example in photos.source.read(shown)]
            likely = np.argsort(-run.predict(np.stack(images)).mean(0))[:_NAMES]
            head += ", perhaps " + ", ".join(run.info.label_names[i] for i in likely)
        rows.append((head, [_Thumb(place, "") for place in shown]))
    return rows


def _search_rows(
    groups: Sequence[Int[np.ndarray, " members"]],
    index: CosineIndex,
    rows: Sequence[int],
    photos: Photos,
) -> list[_Row]:
    """Look up one photograph of each group."""
    if len(rows) < 2:
        return []
    asked = [int(group[len(group) // 2]) for group in groups]
    ids = index.ids
    of_place = dict(zip(rows, ids.tolist(), strict=True))
    place_of = dict(zip(ids.tolist(), rows, strict=True))
    k = min(_SHOWN - 1, len(rows) - 1)
    found = index.search_by_id(np.array([of_place[place] for place in asked]), k)
    return [
        ("", [_Thumb(place, "looked up"), *(_Thumb(place_of[i], f"{s:.2f}") for s, i in line)])
        for place, line in (
            (place, [(s, i) for s, i in zip(scores, ids, strict=True) if i >= 0])
            for place, scores, ids in zip(asked, found[0].tolist(), found[1].tolist(), strict=True)
        )
    ]


def _copy_rows(
    copies: Sequence[Sequence[int]], units: Float[np.ndarray, "photos features"], photos: Photos
) -> list[_Row]:
    rows = []
    for members in copies[:_COPIES]:
        likeness = units[list(members)] @ units[members[0]]
        shown = [
            _Thumb(place, f"{score:.3f} {_short(photos.source.key(place), photos.source.name)}")
            for place, score in list(zip(members, likeness, strict=True))[:_SHOWN]
        ]
        rows.append((f"{len(members)} photographs", shown))
    return rows


def _html(rows: Sequence[_Row], photos: Photos) -> str:
    """Lay rows of thumbnails out, each a link to its file."""
    thumbs = [thumb for _, row in rows for thumb in row]
    source = photos.source

    def draw(number: int) -> str:
        place, caption = thumbs[number]
        name = _short(source.key(place), source.name)
        shown = Shown(source_thumbnail(source, place), caption, name)
        return shown_html(shown, link=source.files[place].as_uri())

    drawn = iter(look_at_all(draw, len(thumbs), "thumbnails"))
    return "".join(
        paragraph(head) + f'<div class="sheet">{"".join(next(drawn) for _ in row)}</div>'
        for head, row in rows
    )


def _short(key: str, folder: str) -> str:
    return key.removeprefix(folder).lstrip("/")
