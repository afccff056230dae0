from matplotlib.figure import Figure

from vision_jax.visual.html import figure_html, paragraph, table, write_page


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
