"""Text that fits a width, in fonts that have its characters."""

import contextlib
import warnings
from collections.abc import Iterator
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import text_to_path

from vision_jax.data.decode import printable
from vision_jax.visual.text import shorten

_USUAL = "DejaVu Sans"  # comes with matplotlib
_BOXES = ("Last Resort", ".LastResort")  # fonts that have every character, as a box


@lru_cache(maxsize=4096)
def fit_text(line: str, inches: float, points: float) -> tuple[str, tuple[str, ...]]:
    """Cut a line in the middle to a width, as matplotlib draws it at a size.

    Args:
        line: plain text, such as a file's name; what cannot be printed is drawn escaped.
        inches: how wide it may be.
        points: size of the font.

    Returns:
        (text, families): the text, and the fonts to draw it in: for each character the first of
        them that has it.
    """
    line = printable(line)
    families = families_for(line)
    font = FontProperties(family=list(families), size=points)

    def measure(text: str) -> float:
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
        return float(width)

    with missing_glyphs_allowed():
        return shorten(line, 72 * inches, measure), families


def families_for(text: str) -> tuple[str, ...]:
    """Find installed fonts that together have the characters of a text, as far as there are any."""
    return _families(_missing(text))[0]


def without_font(text: str) -> str:
    """Return the characters of a text that no installed font has; boxes are drawn for them."""
    return "".join(sorted(_families(_missing(text))[1]))


@contextlib.contextmanager
def missing_glyphs_allowed() -> Iterator[None]:
    """Silence warnings of glyphs that no font has: boxes are drawn for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


def _missing(text: str) -> frozenset[str]:
    text = text.replace("\n", "")
    return frozenset(text) - _held(_usual_path(), frozenset(text))


@lru_cache(maxsize=1024)
def _families(missing: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    families = [_USUAL]
    for family, path in _others() if missing else ():
        if has := _held(path, missing):
            families.append(family)
            missing -= has
        if not missing:
            break
    return tuple(families), missing


@lru_cache
def _others() -> tuple[tuple[str, str], ...]:
    """List installed fonts in one order on every machine, upright and of usual weight first."""
    fonts = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (font.style != "normal", font.weight not in (400, "normal"), font.name),
    )
    useless = (_USUAL, *_BOXES)
    return tuple((font.name, font.fname) for font in fonts if not font.name.startswith(useless))


@lru_cache
def _usual_path() -> str:
    return str(font_manager.findfont(_USUAL))


def _held(path: str, characters: frozenset[str]) -> frozenset[str]:
    """Return the characters that a font has; of one that matplotlib cannot scale, none."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return frozenset()
    if not font.scalable:  # pictures, as emoji often are
        return frozenset()
    return frozenset(c for c in characters if font.get_char_index(ord(c)))
