"""An inspection as one HTML page to look at."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from vision_jax.inspection.survey import Copies, Inspection
from vision_jax.inspection.tables import (
    SHOWN_CLASSES,
    class_counts,
    copies_found,
    count_copies,
    count_suspects,
    file_table,
    kind_of,
    label_of,
    options,
    split_table,
    title,
)
from vision_jax.visual.grids import enlarged, tile
from vision_jax.visual.html import picture, sheet_picture, table, write_page

_SAMPLES = 10  # images of each class
_GROUPS, _COPIES, _SUSPECTS = 40, 6, 60  # shown at most
_SIDE = 96  # pixels to which larger images are brought
_COLORS = ("red", "green", "blue")


def write_inspection(found: Inspection, path: Path) -> None:
    """Writes one HTML page that needs no file beside it.

    Args:
        found: what `inspect` returned.
        path: the page; an older one is replaced only once the new one is whole.

    Raises:
        InputError: an image can no longer be read.
    """
    sections = [
        ("Splits", table(*split_table(found))),
        ("Files", table(*file_table(found))),
        ("Options that fit", f"<pre>{html.escape(options(found))}</pre>"),
    ]
    if found.labels is not None:
        sections.append(("Classes", picture(class_balance(found))))
    sections.append(("Samples", _samples(found)))
    sections.append(("Pixel values", picture(pixel_histogram(found))))
    for name, groups in copies_found(found):
        sections.append((name.capitalize(), _copies(found, groups)))
    if found.suspects is not None:
        sections.append(("Likely label errors", _suspects(found)))
    write_page(path, title(found), sections)


def class_balance(found: Inspection) -> Figure:
    """Draws how many images each class has, a colour per split; beyond 40 classes without names."""
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
        axes.set_yticks(range(len(order)), [(found.source.label_names or ())[i] for i in order])
    axes.set(xlabel="images", ylabel="" if named else "classes, the largest first")
    axes.invert_yaxis()
    figure.legend(loc="outside right upper")
    return figure


def pixel_histogram(found: Inspection) -> Figure:
    """Draws how often each channel takes each value, over all splits."""
    counts = np.sum(list(found.pixels.histograms.values()), 0)
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    channels = [("grey", "0.3")] if len(counts) == 1 else [(c, f"tab:{c}") for c in _COLORS]
    for row, (name, color) in zip(counts / counts.sum(1, keepdims=True), channels, strict=True):
        axes.step(np.arange(256) / 255, row, where="mid", label=name, color=color)
    axes.set(xlabel="pixel value", ylabel="share, logarithmic", yscale="log")
    axes.legend()
    return figure


def _samples(found: Inspection) -> str:
    """A sheet of images of each class, spread evenly over it."""
    if found.labels is None:
        groups = [("", np.arange(len(found.source)))]
    else:
        counts = class_counts(found)[1].sum(0)
        names = found.source.label_names or ()
        shown = np.argsort(-counts, kind="stable")[:SHOWN_CLASSES]
        groups = [(names[i], np.flatnonzero(found.labels == i)) for i in shown if counts[i]]
    body = ""
    for name, rows in groups:
        places = np.linspace(0, len(rows) - 1, min(_SAMPLES, len(rows))).astype(np.int64)
        sheet = tile(_read(found, rows[places].tolist()), columns=_SAMPLES // 2)
        body += sheet_picture(enlarged(sheet), f"{name} {len(rows)} images".strip())
    return f'<div class="row">{body}</div>'


def _copies(found: Inspection, groups: Sequence[Copies]) -> str:
    body = f"<p>{count_copies(list(groups))}. {_first(_GROUPS, len(groups))}</p>"
    for group in groups[:_GROUPS]:
        rows = list(group.rows[:_COPIES])
        captions = [
            f"{found.splits[row]} {label_of(found, row)} {likeness:.4f}\n{found.source.key(row)}"
            for row, likeness in zip(rows, group.cosines[:_COPIES], strict=True)
        ]
        more = len(group.rows) - len(rows)
        head = kind_of(group) + (f", and {more} more images" if more else "")
        body += f"<p>{head}</p>{_thumbs(_read(found, rows), captions)}"
    return body


def _suspects(found: Inspection) -> str:
    names, suspects = found.source.label_names or (), found.suspects or []
    shown = suspects[:_SUSPECTS]
    captions = [
        f"{names[s.given]} {s.given_probability:.2f} → {names[s.likely]} {s.likely_probability:.2f}"
        f"\n{found.source.key(s.row)}"
        for s in shown
    ]
    pictures = _thumbs(_read(found, [s.row for s in shown]), captions) if shown else ""
    return (
        f"<p>{count_suspects(found)}. Below each: its label and the label's probability, then the "
        "likelier one, by the classifier for images that it was not trained on, and by the "
        "image's nearest neighbours for the others. "
        f"{_first(_SUSPECTS, len(suspects))}</p>{pictures}"
    )


def _first(shown: int, count: int) -> str:
    return f"The first {shown} of them:" if count > shown else ""


def _thumbs(images: Iterable[np.ndarray], captions: Sequence[str]) -> str:
    body = ""
    for image, caption in zip(images, captions, strict=True):
        picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        body += sheet_picture(picture, caption)
    return f'<div class="thumbs">{body}</div>'


def _read(
    found: Inspection, rows: Sequence[int]
) -> UInt8[np.ndarray, "images height width channels"]:
    """Images, made smaller where they are large."""
    images = np.stack([example["image"] for example in found.source.read(rows)])
    factor = _SIDE / max(images.shape[1:3])
    if factor >= 1:
        return images
    height, width = (max(1, round(side * factor)) for side in images.shape[1:3])
    small = [
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).resize(
            (width, height), Image.Resampling.BOX
        )
        for image in images
    ]
    return np.stack([np.asarray(image).reshape(height, width, -1) for image in small])
