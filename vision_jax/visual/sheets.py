"""Pictures in rows with what is known of each, as HTML or as one image."""

import dataclasses
import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vision_jax.data.encode import to_pil
from vision_jax.visual.fonts import fit_text
from vision_jax.visual.html import image_html
from vision_jax.visual.plots import NEUTRAL, RIGHT, WRONG
from vision_jax.visual.thumbnails import Thumbnail

_CELL = 1.6  # inches that a picture of a figure takes
_POINTS = 8.0
_LINE = 0.15  # inches
_TINY = 64  # pixels up to which a picture's own pixels are shown
_ENLARGED = 144


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture of a sheet.

    Attributes:
        picture: what to draw.
        text: lines of plain text, such as a label, a score and a file's name.
        title: the whole name, of which the text may show a part.
        right: whether it is what was looked for, which is marked; None where that is unknown.
    """

    picture: Thumbnail
    text: str = ""
    title: str = ""
    right: bool | None = None

    @property
    def caption(self) -> str:
        """The text with its mark, and what is wrong with the picture."""
        mark = "" if self.right is None else "✓ " if self.right else "✗ "
        fault = self.picture.fault
        return mark + self.text + (f"\n({fault})" if fault else "")


def shown_html(shown: Shown, *, link: str = "") -> str:
    """Embed a picture with its text below it; the text wraps.

    Args:
        shown: the picture.
        link: where a click leads, if anywhere.
    """
    verdict = "" if shown.right is None else "right" if shown.right else "wrong"
    image = _enlarged(shown.picture.pixels)
    lossy = max(shown.picture.pixels.shape[:2]) > _TINY and shown.picture.fault is None
    body = image_html(image, shown.caption, lossy=lossy, title=shown.title, kind=verdict)
    return f'<a href="{html.escape(link)}">{body}</a>' if link else body


def row_html(row: Iterable[Shown]) -> str:
    """Lay pictures out side by side; what does not fit goes below."""
    return f'<div class="sheet">{"".join(map(shown_html, row))}</div>'


def sheet_figure(rows: Sequence[Sequence[Shown]]) -> Figure:
    """Draw rows of pictures, right ones framed green and wrong ones red.

    Args:
        rows: at least one, with as many pictures as it has. Lines of text that do not fit are cut
            in the middle.

    Returns:
        A row of the figure for each.
    """
    columns = max(1, *map(len, rows))
    lines = max((shown.caption.count("\n") + 1 for row in rows for shown in row), default=1)
    size = (_CELL * columns, (_CELL + 0.1 + _LINE * lines) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for row, line in zip(rows, grid, strict=True):
        for shown, axes in zip(row, line, strict=False):
            _draw(axes, shown)
    return figure


def _draw(axes: Any, shown: Shown) -> None:
    color = NEUTRAL if shown.right is None else RIGHT if shown.right else WRONG
    pixels = np.asarray(_enlarged(shown.picture.pixels))
    axes.axis("on")
    axes.set(xticks=[], yticks=[], anchor="N")  # so that the texts above are in one line
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    fitted = [fit_text(line, 0.94 * _CELL, _POINTS) for line in shown.caption.split("\n")]
    # File names may hold a $, which is no formula.
    axes.set_title(
        "\n".join(line for line, _ in fitted),
        size=_POINTS,
        color=color,
        parse_math=False,
        family=list(dict.fromkeys(family for _, families in fitted for family in families)),
    )
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=2)


def _enlarged(pixels: np.ndarray) -> Image.Image:
    """Return a picture; a tiny one enlarged by a whole factor, without blurring its pixels."""
    image = to_pil(pixels)
    if max(image.size) > _TINY:
        return image
    factor = max(1, _ENLARGED // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
