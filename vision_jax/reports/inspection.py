"""An inspection as one HTML page to look at."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vision_jax.data.sources import evenly_spaced
from vision_jax.inspection.copies import Copies
from vision_jax.inspection.survey import Inspection
from vision_jax.inspection.tables import (
    SHOWN_CLASSES,
    class_counts,
    classes,
    copies_found,
    count_copies,
    count_suspects,
    counted,
    file_table,
    kind_of,
    label_of,
    lost_images,
    options,
    split_table,
    title,
)
from vision_jax.reports.class_maps import suspects_html
from vision_jax.run.run import Run
from vision_jax.visual.html import figure_html, paragraph, table, write_page
from vision_jax.visual.plots import axis_names
from vision_jax.visual.sheets import Shown, row_html
from vision_jax.visual.thumbnails import source_thumbnail

_SAMPLES = 10  # images of each class
_GROUPS, _COPIES, _SUSPECTS = 40, 6, 60  # shown at most
_COLORS = ("red", "green", "blue")


def write_inspection(found: Inspection, path: Path, run: Run | None = None) -> None:
    """Write an inspection as one HTML page that needs no other file.

    Args:
        found: what `inspect` returned.
        path: the page; an older one stays until the new one is whole.
        run: the run that judged the labels; a classifier explains its suspicions.

    Raises:
        InputError: an image can no longer be read.
    """
    sections = [
        ("Splits", table(*split_table(found))),
        ("Files", table(*file_table(found))),
        ("Suggested training options", f"<pre>{html.escape(options(found))}</pre>"),
    ]
    if classes(found):
        sections.append(("Classes", figure_html(class_balance(found), "images of each class")))
    sections.append(("Samples", _samples(found)))
    sections.append(("Pixel values", figure_html(pixel_histogram(found), "histogram")))
    for name, groups in copies_found(found):
        sections.append((_sentence(name), _copies(found, groups)))
    if len(found.lost):
        sections.append(("Images left out", paragraph(_sentence(lost_images(found)))))
    if found.suspects is not None:
        maps = suspects_html(run, found.source, found.suspects)
        sections.append(("Likely label errors", _suspects(found) + maps))
    write_page(path, title(found), sections)


def class_balance(found: Inspection) -> Figure:
    """Plot how many images each class has, a colour per split; without names above 40 classes."""
    splits, counts = class_counts(found)
    order = np.argsort(-counts.sum(0), kind="stable")
    named = len(order) <= SHOWN_CLASSES
    figure = Figure(figsize=(9, 1 + 0.26 * min(len(order), SHOWN_CLASSES)), layout="constrained")
    axes = figure.subplots()
    begun = np.zeros(len(order))
    for split, row in zip(splits, counts[:, order], strict=True):
        axes.barh(np.arange(len(order)), row, left=begun, label=split, height=0.8 if named else 1)
        begun += row
    if named:
        names = axis_names([classes(found)[i] for i in order])
        axes.set_yticks(range(len(order)), names, parse_math=False)
    axes.set(xlabel="images", ylabel="" if named else "classes, the largest first")
    axes.invert_yaxis()
    figure.legend(loc="outside right upper")
    return figure


def pixel_histogram(found: Inspection) -> Figure:
    """Plot how often each channel takes each value, over all splits."""
    counts = np.sum(list(found.pixels.histograms.values()), 0)
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    channels = [("grey", "0.3")] if len(counts) == 1 else [(c, f"tab:{c}") for c in _COLORS]
    for row, (name, color) in zip(counts / counts.sum(1, keepdims=True), channels, strict=True):
        axes.step(np.arange(256) / 255, row, where="mid", label=name, color=color)
    axes.set(xlabel="pixel value", ylabel="share (log scale)", yscale="log")
    axes.legend()
    return figure


def _samples(found: Inspection) -> str:
    """Show some images of each class, spread evenly over it."""
    if found.labels is None:
        groups = [("", np.arange(len(found.source)))]
    else:
        counts = class_counts(found)[1].sum(0)
        names = found.source.label_names or ()
        shown = np.argsort(-counts, kind="stable")[:SHOWN_CLASSES]
        groups = [(names[i], np.flatnonzero(found.labels == i)) for i in shown if counts[i]]
    body = ""
    for name, rows in groups:
        caption = f"{name}: {counted(len(rows), 'image')}".removeprefix(": ")
        shown = rows[evenly_spaced(len(rows), _SAMPLES)].tolist()
        body += paragraph(caption) + _thumbs(found, shown, [""] * len(shown))
    return body


def _copies(found: Inspection, groups: Sequence[Copies]) -> str:
    body = paragraph(_sentence(f"{count_copies(groups)}. {_first(_GROUPS, len(groups))}"))
    for group in groups[:_GROUPS]:
        rows = list(group.rows[:_COPIES])
        captions = [
            f"{found.splits[row]} {label_of(found, row)} {likeness:.4f}\n{found.source.key(row)}"
            for row, likeness in zip(rows, group.cosines[:_COPIES], strict=True)
        ]
        more = len(group.rows) - len(rows)
        head = kind_of(group) + (f", and {counted(more, 'more image')}" if more > 0 else "")
        body += paragraph(head) + _thumbs(found, rows, captions)
    return body


def _suspects(found: Inspection) -> str:
    names, suspects = found.source.label_names or (), found.suspects or []
    shown = suspects[:_SUSPECTS]
    captions = [
        f"{names[s.given]} {s.given_probability:.2f} → {names[s.likely]} {s.likely_probability:.2f}"
        f"\n{found.source.key(s.row)}"
        for s in shown
    ]
    pictures = _thumbs(found, [s.row for s in shown], captions)
    return (
        paragraph(
            f"{_sentence(count_suspects(found))}. Below each image: its label with its "
            "probability, then the likelier one. The classifier judges images that it was not "
            "trained on; nearest neighbours judge the others. "
            f"{_first(_SUSPECTS, len(suspects))}"
        )
        + pictures
    )


def _sentence(text: str) -> str:
    """Begin text with a capital, leaving names in it as they are."""
    return text[:1].upper() + text[1:]


def _first(shown: int, count: int) -> str:
    return f"The first {shown} are shown." if count > shown else ""


def _thumbs(found: Inspection, rows: Sequence[int], captions: Sequence[str]) -> str:
    return row_html(
        Shown(source_thumbnail(found.source, row), caption, found.source.key(row))
        for row, caption in zip(rows, captions, strict=True)
    )
