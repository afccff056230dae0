"""Pictures of searches: queries beside what was found."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from vision_jax.data.sources import Example, Source
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.retrieval import nearest
from vision_jax.gallery.originals import Originals
from vision_jax.search import CosineIndex
from vision_jax.search.arrays import without_direction
from vision_jax.visual.fonts import without_font
from vision_jax.visual.html import paragraph, write_page
from vision_jax.visual.plots import write_png
from vision_jax.visual.sheets import Shown, row_html, sheet_figure
from vision_jax.visual.thumbnails import Thumbnail, file_name, source_thumbnail

_QUERIES, _NEIGHBOURS = 10, 8


def search_rows(data: EvaluationData) -> list[list[Shown]]:
    """Show test images with their nearest training images.

    Args:
        data: a trained run and its data.

    Returns:
        Ten queries, spread over the classes, with eight neighbours each; none if no query or no
        training image has an embedding that can be compared.
    """
    train, test = data.train, data.test
    places = spread_over_classes(test.labels(), len(test), _QUERIES)
    examples = test.read(places)
    vectors = data.run.embed(np.stack([example["image"] for example in examples]), views=data.views)
    lost = without_direction(vectors)
    asked = [(i, e) for n, (i, e) in enumerate(zip(places, examples, strict=True)) if n not in lost]
    if not asked:
        return []
    scores, ids, _ = nearest(np.delete(vectors, lost, 0), [data.train_vectors], _NEIGHBOURS)
    if not (ids >= 0).any():
        return []
    rows = []
    for (place, example), line, found in zip(asked, scores, ids, strict=True):
        near = found[found >= 0].tolist()
        text = _lines(_class_name(example, test), file_name(test.key(place)))
        row = [Shown(source_thumbnail(test, place), text, test.key(place))]
        for item, other, score in zip(near, train.read(near), line.tolist(), strict=False):
            row.append(
                Shown(
                    source_thumbnail(train, item),
                    _lines(_class_name(other, train), score, file_name(train.key(item))),
                    train.key(item),
                    other["label"] == example["label"] if "label" in other else None,
                )
            )
        rows.append(row)
    return rows


def found_rows(
    index: CosineIndex,
    originals: Originals,
    asked: Iterable[Thumbnail],
    names: Sequence[str],
    scores: Float[np.ndarray, "queries k"],
    ids: Integer[np.ndarray, "queries k"],
) -> Iterator[list[Shown]]:
    """Give each image looked up beside what a search found for it.

    Args:
        index: what was searched.
        originals: its images.
        asked: the images looked up, each taken when its row is.
        names: their names.
        scores: (Q, k) the similarities of their neighbours.
        ids: (Q, k) the ids of their neighbours; -1 for none.

    Yields:
        A row of pictures for each; they are opened as the rows are taken.
    """
    for picture, name, line, found in zip(asked, names, scores, ids, strict=True):
        rows = index.metadata(found[found >= 0])
        yield [
            Shown(picture, f"looked up\n{file_name(name)}", name),
            *(
                Shown(
                    originals.thumbnail(row),
                    _lines(row.get("label", ""), score, file_name(row["key"])),
                    row["key"],
                )
                for row, score in zip(rows, line[found >= 0].tolist(), strict=True)
            ),
        ]


def write_found(
    path: Path,
    index: CosineIndex,
    originals: Originals,
    asked: Iterable[Thumbnail],
    names: Sequence[str],
    scores: Float[np.ndarray, "queries k"],
    ids: Integer[np.ndarray, "queries k"],
) -> list[str]:
    """Write what a search found as PNG, or as a page that needs no other file.

    Args:
        path: a page if it ends in `.html`. An older file stays until the new one is whole.
        index: see `found_rows`; so are the others.
        originals: likewise.
        asked: likewise.
        names: likewise.
        scores: likewise.
        ids: likewise.

    Returns:
        Sentences that say what the file does not show.
    """
    if path.suffix.lower() in PAGES:
        rows = found_rows(index, originals, asked, names, scores, ids)
        write_page(path, "Found", [("", "".join(map(row_html, rows)))], introduction=_FOUND)
        return []
    kept = slice(_ROWS)
    few = (names[kept], scores[kept, :_COLUMNS], ids[kept, :_COLUMNS])
    sheet = list(found_rows(index, originals, itertools.islice(asked, len(few[0])), *few))
    write_png(sheet_figure(sheet), path, dpi=_DPI)
    notes = []
    if few[2].shape != ids.shape:
        notes.append(
            f"{path} shows {few[2].shape[1]} of {ids.shape[1]} neighbours of {len(few[0])} of "
            f"{len(ids)} images; a page, such as {path.with_suffix('.html')}, shows all"
        )
    if boxes := without_font("".join(shown.caption for row in sheet for shown in row)):
        notes.append(
            f"no installed font has {boxes[:_CHARACTERS]}; a page, such as "
            f"{path.with_suffix('.html')}, shows names in the browser's fonts"
        )
    return notes


PAGES = (".html", ".htm")
_ROWS, _COLUMNS = 40, 20  # pictures of a PNG at most
_CHARACTERS = 5
_DPI = 150
_FOUND = paragraph("Images looked up, each with what was found and its cosine similarity.")


def _lines(*parts: str | float) -> str:
    texts = [part if isinstance(part, str) else f"{part:.3f}" for part in parts]
    return "\n".join(text for text in texts if text)


def _class_name(example: Example, source: Source) -> str:
    names = source.label_names
    return "" if names is None else names[example["label"]]


def spread_over_classes(
    labels: Float[np.ndarray, " n"] | Integer[np.ndarray, " n"] | None, count: int, most: int
) -> list[int]:
    """Choose which images to show: one of each class in turn, the first ones first.

    Args:
        labels: (N,) their labels, if they have any.
        count: N.
        most: how many to choose at most.

    Returns:
        Their places in [0, N).
    """
    if labels is None:
        return list(range(min(most, count)))
    rank = np.zeros(count, np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    return np.lexsort((labels, rank))[:most].tolist()
