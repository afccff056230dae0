import pytest

from vision_jax.visual.text import shorten, text_table, text_width


def test_columns_are_aligned_for_letters_of_any_width():
    lines = text_table(("class", "n"), [("naïve", "1"), ("金毛", "22"), ("x", "3")], indent=1)
    assert lines.split("\n") == [" class  n", " naïve  1", " 金毛   22", " x      3"]
    assert text_width("e\u0301") == 1  # an accent that is a character of its own
    assert text_width("🐶") == 2


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("short", 5, "short"), ("too long", 5, "to…ng"), ("金毛寻回", 5, "金…回"), ("", 0, "")],
)
def test_text_is_cut_to_a_width(text, width, expected):
    assert shorten(text, width) == expected
