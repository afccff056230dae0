"""Tables of plain text, and text cut to a width."""

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, indent: int = 0) -> str:
    """Align rows of text in columns as wide as they need.

    Args:
        head: the column titles.
        rows: as many cells each.
        indent: spaces before each line.

    Returns:
        One line for the head and one per row.
    """
    lines = [tuple(head), *rows]
    widths = [max(map(text_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        " " * indent
        + "  ".join(
            cell + " " * (width - text_width(cell))
            for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def shorten(
    text: str, width: float | int, measure: Callable[[str], float | int] | None = None
) -> str:
    """Cut text that is too wide in its middle, marking the cut by an ellipsis.

    The ends of names tell them apart: a file's number, a class's last word.

    Args:
        text: one line.
        width: how wide it may be.
        measure: the width of text; `text_width` by default.
    """
    measure = measure or text_width
    if measure(text) <= width:
        return text

    def cut(kept: int) -> str:
        return text[: -(-kept // 2)] + "…" + text[len(text) - kept // 2 :]

    return cut(bisect_right(range(1, len(text)), width, key=lambda kept: measure(cut(kept))))


def text_width(text: str) -> int:
    """Count the terminal columns that text takes: East Asian characters and emoji take two."""
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
