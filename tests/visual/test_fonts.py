from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from vision_jax.visual.fonts import families_for, fit_text, without_font


def test_a_character_is_drawn_in_a_font_that_has_it():
    has = {
        font.name: set(FT2Font(font.fname).get_charmap())
        for font in font_manager.fontManager.ttflist
    }
    usual = has.pop("DejaVu Sans")
    # Any installed font will do; matplotlib's own STIX has signs that DejaVu lacks.
    text = chr(min(has["STIXGeneral"] - usual - set(range(0xE000, 0xF900))))
    first, *more = families_for("a" + text)
    assert first == "DejaVu Sans"
    assert any(ord(text) in has[family] for family in more)
    assert without_font("a" + text) == ""
    assert families_for("plain") == ("DejaVu Sans",)


def test_characters_of_no_font_are_named():
    assert without_font("a\U000e0fffb") == "\U000e0fff"
    assert fit_text("a\U000e0fffb", 1.0, 8.0)[0] == "a\U000e0fffb"
