import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vision_jax.visual.html import figure_html, image_html, paragraph, table, write_page


def test_the_page_holds_its_pictures_and_escapes_text(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, "a < b", [("A & B", table(("<x>",), [("1",)]))])
    text = path.read_text()
    assert "<title>a &lt; b</title>" in text
    assert "<h2>A &amp; B</h2>" in text
    assert "<th>&lt;x&gt;</th>" in text
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_text_is_escaped_wherever_it_stands():
    assert paragraph("a < b & c") == "<p>a &lt; b &amp; c</p>"
    assert paragraph("") == ""
    assert 'alt="&quot;x&quot;"' in figure_html(Figure(), '"x"')


@pytest.mark.parametrize(("lossy", "kind", "levels"), [(False, "png", 0), (True, "jpeg", 8)])
def test_an_embedded_image_is_the_image(lossy, kind, levels):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    page = image_html(Image.fromarray(ramp), "a < b", lossy=lossy)
    (data,) = re.findall(f'src="data:image/{kind};base64,(.*?)"', page)
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_allclose(found.astype(int), ramp, atol=levels)
    assert "<figcaption>a &lt; b</figcaption>" in page
