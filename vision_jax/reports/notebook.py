"""What a notebook shows of an index and of what a search found in it."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.data.arrays import as_images
from vision_jax.data.decode import printable
from vision_jax.data.sources import reduced
from vision_jax.errors import InputError
from vision_jax.gallery.origin import entries
from vision_jax.gallery.originals import Originals
from vision_jax.reports.searches import found_rows
from vision_jax.search import CosineIndex
from vision_jax.visual.html import SHEET_STYLE, paragraph
from vision_jax.visual.sheets import Shown, row_html
from vision_jax.visual.thumbnails import SIDE, Thumbnail, file_name, file_thumbnail, placeholder

_ROWS, _COLUMNS = 20, 20


class Pictures:
    """Rows of pictures that a notebook draws; `html` is what it draws.

    Args:
        html: a piece of a page that needs no other file.
    """

    def __init__(self, html: str) -> None:
        self.html = html

    def __repr__(self) -> str:
        return f"<Pictures: {self.html.count('<figure')} as HTML>"

    def _repr_html_(self) -> str:
        return self.html


def show(
    index: CosineIndex,
    found: tuple[Any, Any] | None = None,
    *,
    queries: Any = None,
    workdir: str | Path | None = None,
) -> Pictures:
    """Show in a notebook what a search found, or some of an index's images, as thumbnails.

    The first 20 queries are shown, with 20 neighbours each at most.

    Args:
        index: an index that `vision-jax index` or `build_index` made.
        found: `(scores, ids)`, (Q, k) each, as every search returns them; by default the index's
            first images are shown.
        queries: what was looked up: image files, or images as `data.arrays.as_images` takes them.
        workdir: the folder of the run that made the index, if it has moved since.

    Returns:
        What a notebook draws; its `html` is text.

    Raises:
        InputError: the index is not one of images, or there are not as many queries as rows.

    >>> import vision_jax
    >>> from vision_jax.gallery import build_index
    >>> run = vision_jax.load_run("runs/quickstart/cnn")  # after `vision-jax quickstart`
    >>> index = build_index(run, run.source("test"))
    >>> vision_jax.show(index, index.search_by_id([0], k=4))  # draws them in a notebook
    <Pictures: 5 as HTML>
    """
    originals = Originals(index, workdir)
    if found is None:
        rows = [row for _, row in entries(index)[:_COLUMNS]]
        body = row_html(
            Shown(
                originals.thumbnail(row),
                f"{row.get('label', '')}\n{file_name(row['key'])}".lstrip(),
                row["key"],
            )
            for row in rows
        )
        return Pictures(_whole(body, len(rows), len(index), "images"))
    scores, ids = (np.atleast_2d(part) for part in found)
    if scores.shape != ids.shape:
        raise InputError(
            f"found has scores of shape {scores.shape} and ids of {ids.shape}; they must be equal"
        )
    asked, names = _asked(queries, len(ids))
    few = slice(_ROWS)
    sheet = found_rows(
        index,
        originals,
        itertools.islice(asked, len(names[few])),
        names[few],
        scores[few, :_COLUMNS],
        ids[few, :_COLUMNS],
    )
    body = "".join(map(row_html, sheet))
    return Pictures(_whole(body, len(names[few]), len(ids), "searches"))


def _asked(queries: Any, count: int) -> tuple[Iterable[Thumbnail], Sequence[str]]:
    """Return the pictures that were looked up, and their names."""
    if queries is None:
        names = [f"query {number}" for number in range(count)]
        return (placeholder("not given") for _ in names), names
    if isinstance(queries, str | Path):
        queries = [queries]
    if len(queries) != count:
        raise InputError(f"queries are {len(queries)}; found has {count} rows, one for each")
    if all(isinstance(query, str | Path) for query in queries):
        return map(file_thumbnail, queries), [printable(query) for query in queries]
    images = as_images(queries, name="queries")
    names = [f"query {number}" for number in range(count)]
    return (Thumbnail(reduced(image, SIDE)) for image in images), names


def _whole(body: str, shown: int, count: int, what: str) -> str:
    more = paragraph(f"The first {shown} of {count:,} {what}.") if count > shown else ""
    return f"<style>{SHEET_STYLE}</style>{more}{body}"
