"""Why two images match: both pictures with their maps, and lines between the parts that match."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer
from matplotlib.figure import Figure
from PIL import Image

from vision_jax.explain.similarity import RegionPair, similarity_map
from vision_jax.gallery.origin import check_single_view
from vision_jax.reports.readings import readings_html
from vision_jax.reports.searches import PAGES
from vision_jax.reports.seen import Seen, seen_files, seen_indexed, stack
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.visual.heatmaps import Map, Scale, where
from vision_jax.visual.html import image_html, paragraph, write_page
from vision_jax.visual.joined import Pair, join
from vision_jax.visual.plots import write_png

_PAIRS = 4
_ROWS = 40  # matches of a PNG at most
_WIDTH, _HEIGHT, _BAR = 6.5, 2.9, 0.12  # inches of a row, and of its scale


class Match(NamedTuple):
    """Two images, and what each part of them adds to their cosine.

    Attributes:
        query: the image looked up.
        match: the image it is compared with.
        cosine: of their embeddings.
        query_map: (h, w) over the positions of the feature map; it sums to the cosine.
        match_map: (H, W), likewise.
        pairs: the regions that add most, the strongest first.
        exact: whether the maps are the cosine's own terms, and no approximation.
    """

    query: Seen
    match: Seen
    cosine: float
    query_map: Map
    match_map: Map
    pairs: Sequence[RegionPair]
    exact: bool


def explain_matches(run: Run, queries: Sequence[Seen], matches: Sequence[Seen]) -> list[Match]:
    """Divide the cosine of each pair of images among their parts.

    Args:
        run: whose embeddings are compared.
        queries: the images looked up; one may stand for all.
        matches: the image that each is compared with; one may stand for all.

    Raises:
        InputError: the network has no feature map that its embedding depends on.
    """
    found = similarity_map(run, stack(queries), stack(matches))
    count = len(found.cosine)
    queries, matches = (list(s) * count if len(s) == 1 else s for s in (queries, matches))
    return [
        Match(query, match, float(cosine), query_map, match_map, pairs, found.exact)
        for query, match, cosine, query_map, match_map, pairs in zip(
            queries,
            matches,
            found.cosine,
            found.query_map,
            found.match_map,
            found.strongest(_PAIRS),
            strict=True,
        )
    ]


def write_search_matches(
    path: Path,
    run: Run,
    index: CosineIndex,
    images: Sequence[str | Path],
    keys: Sequence[str],
    ids: Integer[np.ndarray, "queries k"],
) -> list[str]:
    """Draw what a search found, each hit with the parts that match.

    Args:
        path: a page if it ends in .html, else a PNG.
        run: the run that made the index.
        index: what was searched; its images are read again from where they were.
        images: the files looked up, or
        keys: those of indexed images.
        ids: (Q, k) what was found; -1 for none.

    Returns:
        Sentences that say what the file does not show.

    Raises:
        InputError: an image is no longer there, the network has no feature map, or the index
            averages several views of an image.
    """
    check_single_view(index, "an explanation")
    notes, shown = [], ids
    if path.suffix.lower() not in PAGES and (count := int((ids >= 0).sum())) > _ROWS:
        shown = np.where((ids >= 0) & (np.cumsum(ids >= 0).reshape(ids.shape) <= _ROWS), ids, -1)
        notes.append(
            f"{path} shows {_ROWS} of {count} matches; a page, such as "
            f"{path.with_suffix('.html')}, shows all"
        )
    asked = seen_indexed(run, index, keys) if keys else seen_files(run, images)
    found = [[row["key"] for row in index.metadata(line[line >= 0])] for line in shown]
    hits = iter(seen_indexed(run, index, [key for line in found for key in line]))
    groups = [
        (query.title, explain_matches(run, [query], [next(hits) for _ in line]) if line else [])
        for query, line in zip(asked, found, strict=True)
    ]
    if path.suffix.lower() in PAGES:
        write_matches(path, "Found, and why", groups)
    else:
        write_png(matches_figure(groups), path)
    return notes


def match_picture(match: Match) -> tuple[Image.Image, Scale]:
    """Draw both images with their maps on one scale, and the parts that match joined."""
    scale = Scale.of(np.stack([match.query_map, match.match_map]))
    left, right = match.query, match.match
    pairs = [Pair(left.place(p.query_box), right.place(p.match_box)) for p in match.pairs]
    maps = left.overlay(match.query_map, scale), right.overlay(match.match_map, scale)
    return join(*maps, pairs), scale


def match_html(match: Match) -> str:
    """Show two images, their maps and the parts that match."""
    names = f"{match.query.name} and {match.match.name}"
    tiny = match.query.tiny and match.match.tiny
    plain = join(match.query.picture, match.match.picture, [])
    drawn, scale = match_picture(match)
    description = (
        f"What matches between {names}. Left: {where(match.query_map)}. "
        f"Right: {where(match.match_map)}. {scale.describe()}"
    )
    figures = image_html(plain, "The two pictures", lossy=not tiny, description=names)
    maps = image_html(drawn, "What matches", lossy=not tiny, description=description)
    return (
        paragraph(_summary(match))
        + f'<div class="maps pairs">{figures}<div>{maps}{scale.legend()}</div></div>'
    )


def write_matches(path: Path, title: str, groups: Sequence[tuple[str, Sequence[Match]]]) -> None:
    """Write a page of searches, each hit with what matches.

    Args:
        path: the page; an older one stays until the new one is whole.
        title: plain text.
        groups: what was looked up and its hits, the best first.
    """
    sections = [(name, "".join(map(match_html, matches))) for name, matches in groups]
    sections.append(("How to read the maps", readings_html(["similarity"])))
    write_page(path, title, sections)


def matches_figure(groups: Sequence[tuple[str, Sequence[Match]]]) -> Figure:
    """Draw searches, each hit in a row of its own with its map, cosine and scale."""
    rows = [match for _, matches in groups for match in matches]
    figure = Figure(figsize=(_WIDTH, _HEIGHT * max(len(rows), 1)), layout="constrained")
    if not rows:
        figure.text(0.5, 0.5, "nothing was found", ha="center")
        return figure
    grid = figure.subplots(2 * len(rows), squeeze=False, height_ratios=[_HEIGHT, _BAR] * len(rows))
    for (axes, bar), match in zip(grid.reshape(-1, 2), rows, strict=True):
        drawn, scale = match_picture(match)
        axes.imshow(drawn)
        axes.axis("off")
        title = f"{match.query.title} and {match.match.title}, cosine {match.cosine:.3f}"
        axes.set_title(title, size=8, parse_math=False)
        bar.imshow(scale.bar(), aspect="auto", extent=(0, 1, 0, 1))
        bar.set_xticks(np.linspace(0, 1, len(scale.ends)), scale.ends, size=7)
        bar.set(yticks=[], xlim=(-1, 2), frame_on=False)
    return figure


def _summary(match: Match) -> str:
    text = f"{match.match.title}: cosine {match.cosine:.4f}."
    if match.pairs:
        added = ", ".join(f"{pair.contribution:.3f}" for pair in match.pairs)
        text += f" The numbered pairs of parts add {added}."
    if not match.exact:
        text += " " + _APPROXIMATE
    return text


_APPROXIMATE = (
    "This network's embedding is no average over positions, so the maps are an approximation: a "
    "part's value is what the embedding loses without it."
)
