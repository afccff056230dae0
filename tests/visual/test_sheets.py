import html.parser
import io
import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image
from sklearn.datasets import load_sample_images

from vision_jax.visual.fonts import missing_glyphs_allowed
from vision_jax.visual.plots import NEUTRAL, RIGHT, WRONG, write_png
from vision_jax.visual.sheets import Shown, row_html, sheet_figure
from vision_jax.visual.thumbnails import Thumbnail, file_name, file_thumbnail, placeholder

LONG = "a class whose name is as long as ImageNet's: great white shark, white shark, man-eater"
HOSTILE = '<img src=x onerror="alert(1)">&amp;\'.png'


def shown(value, text, right=None, shape=(2, 2, 1)):
    return Shown(Thumbnail(np.full(shape, value, np.uint8)), text, text, right)


def test_right_pictures_are_green_and_wrong_ones_red():
    row = [shown(0, "query"), shown(1, "x", True), shown(2, "y", False), shown(3, "z")]
    axes = sheet_figure([row]).axes
    assert [a.get_title() for a in axes] == ["query", "✓ x", "✗ y", "z"]
    colors = [to_hex(a.spines["left"].get_edgecolor()) for a in axes]
    assert colors == [NEUTRAL, RIGHT, WRONG, NEUTRAL]
    assert [int(a.images[0].get_array()[0, 0]) for a in axes] == [0, 1, 2, 3]


def test_long_names_do_not_run_into_one_another():
    names = [
        "W" * 30,
        "i" * 90,
        LONG,
        "IMG_20240131_123456789_HDR_edited_copy.jpeg",
        "金毛" * 20,
        "7",
    ]
    row = [shown(0, f"{name}\n0.98\nx$_$y.png", True) for name in names]
    figure = sheet_figure([row, row])
    with missing_glyphs_allowed():  # of fonts that are not installed everywhere
        figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    for left, right in itertools.pairwise(boxes[: len(names)]):
        assert left.x1 < right.x0
    texts = [axes.get_title().split("\n")[0].removeprefix("✓ ") for axes in figure.axes]
    for text, name in zip(texts, names, strict=False):
        start, _, end = text.partition("…")
        assert name.startswith(start)
        assert name.endswith(end or start)
    assert texts[3].endswith("copy.jpeg")
    write_png(figure, io.BytesIO())  # a $ is no formula


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("name", [HOSTILE, LONG, "金毛寻回犬.jpg"])
def test_pages_hold_whole_names_and_nothing_that_runs(name):
    page = Page(row_html([Shown(placeholder("does not exist"), f"cat\n{name}", name, False)]))
    assert [tag for tag, _ in page.tags] == ["div", "figure", "img", "figcaption"]
    assert page.tags[1][1] == {"class": "wrong", "title": name}
    assert page.tags[2][1].keys() == {"alt", "src"}
    assert page.tags[2][1]["alt"] == name
    assert page.texts == [f"✗ cat\n{name}\n(does not exist)"]


def test_a_thumbnail_is_the_whole_photograph_upright(tmp_path):
    photograph = Image.fromarray(load_sample_images().images[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    photograph.save(tmp_path / "lying.png", exif=exif)
    found, fault = file_thumbnail(tmp_path / "lying.png", side=100)
    expected = photograph.transpose(Image.Transpose.ROTATE_270).resize((67, 100), 2)
    np.testing.assert_array_equal(found, np.asarray(expected))
    assert fault is None
    assert file_thumbnail(tmp_path / "gone.png").fault == "does not exist; an image file is needed"


def test_files_are_called_by_their_names_and_examples_by_their_keys():
    assert file_name("/photos/a b.jpg") == "a b.jpg"
    assert file_name("digits/train[:30%]/7") == "digits/train[:30%]/7"
