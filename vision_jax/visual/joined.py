"""Two pictures side by side, with lines between the parts that belong together."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from vision_jax.visual.heatmaps import Box

# Close to Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLORS = ("#f0e442", "#56b4e9", "#e69f00", "#00c290", "#e79ac4")
_GAP = 0.14  # of both widths, between the pictures
_FINER = 3  # lines are drawn this much larger, and reduced to smooth them


class Pair(NamedTuple):
    """A part of one picture and the part of another that belongs to it.

    Attributes:
        left: in the left picture.
        right: in the right picture.
    """

    left: Box
    right: Box


def join(left: Image.Image, right: Image.Image, pairs: Sequence[Pair]) -> Image.Image:
    """Put two pictures side by side and join the parts that belong together.

    Args:
        left: any size.
        right: scaled to the left one's height.
        pairs: the strongest first; each gets a colour and a number, counted from 1.

    Returns:
        An image with a transparent gap between the pictures.
    """
    factor = left.height / right.height
    scaled = right.resize((max(1, round(right.width * factor)), left.height))
    start = left.width + max(12, round(_GAP * (left.width + scaled.width)))
    canvas = Image.new("RGBA", (start + scaled.width, left.height))
    canvas.paste(left, (0, 0))
    canvas.paste(scaled, (start, 0))
    layer = Image.new("RGBA", (canvas.width * _FINER, canvas.height * _FINER))
    # The strongest are drawn last, over the weaker ones.
    for number, pair in reversed(list(enumerate(pairs))):
        there = [round(side * factor) for side in pair.right]
        boxes = (pair.left, (there[0] + start, there[1], there[2] + start, there[3]))
        _draw(layer, boxes, _COLORS[number % len(_COLORS)], str(number + 1))
    canvas.alpha_composite(layer.resize(canvas.size, Image.Resampling.BOX))
    return canvas


def _draw(layer: Image.Image, boxes: tuple[Box, Box], color: str, name: str) -> None:
    """Draw two boxes, a line between them, and their name in a corner of each."""
    draw = ImageDraw.Draw(layer)
    line = max(2 * _FINER, layer.height // 150)
    here, there = (tuple(side * _FINER for side in box) for box in boxes)
    path = [(here[2], _middle(here)), (there[0], _middle(there))]
    draw.line(path, fill="#000000a0", width=2 * line)
    draw.line(path, fill=color, width=line)
    size = max(11 * _FINER, layer.height // 16)
    for left, top, right, bottom in (here, there):
        outer = (left - line // 2, top - line // 2, right + line // 2, bottom + line // 2)
        draw.rectangle(outer, outline="#000000a0", width=2 * line)
        draw.rectangle((left, top, right, bottom), outline=color, width=line)
        draw.rectangle((left, top, left + size, top + size), fill=color)
        centre = (left + size / 2, top + size / 2)
        font = ImageFont.load_default(0.8 * size)
        draw.text(centre, name, fill="#000000", font=font, anchor="mm")


def _middle(box: Sequence[int]) -> int:
    return (box[1] + box[3]) // 2
