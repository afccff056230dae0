import io

import numpy as np
import pytest
from matplotlib.colors import to_hex

from vision_jax.reports import run as report
from vision_jax.run.run import load_run


def test_curves_show_every_figure_of_both_parts():
    rows = [
        {"step": 1, "epoch": 1, "train/loss": 2.0, "validation/loss": 3.0, "train/accuracy": 0.1},
        {"step": 2, "epoch": 2, "train/loss": 1.0, "validation/loss": 2.5, "train/accuracy": 0.2},
    ]
    axes = report.learning_curves(rows).axes
    assert [a.get_title() for a in axes] == ["loss", "accuracy"]
    lines = {line.get_label(): line.get_ydata() for line in axes[0].lines}
    np.testing.assert_array_equal(lines["train"], [2.0, 1.0])
    np.testing.assert_array_equal(lines["validation"], [3.0, 2.5])


def test_the_confusion_matrix_shows_shares_and_counts():
    (axes,) = report.confusion_matrix(np.array([[3, 1], [0, 4]]), ("a", "b")).axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert [text.get_text() for text in axes.texts] == ["3", "1", "4"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_names_are_drawn_as_they_are_and_not_as_formulas():
    name = "x$_$y.png"
    (axes,) = report.confusion_matrix(np.eye(2, dtype=int), (name, "b")).axes
    report.show_image(axes, np.zeros((4, 4, 3), np.uint8), name, "black")
    buffer = io.BytesIO()
    axes.figure.savefig(buffer)
    assert axes.get_title() == name
    assert buffer.getvalue()


def test_right_neighbours_are_green_and_wrong_ones_red():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(2, 1).repeat(2, 2)
    figure = report.neighbour_grid(
        images[:1], ["query"], [images[1:]], [["x", "y", "z"]], [[True, False, None]]
    )
    axes = figure.axes
    assert [a.get_title() for a in axes] == ["query", "✓ x", "✗ y", "z"]
    colors = [to_hex(a.spines["left"].get_edgecolor()) for a in axes]
    assert colors == [report.NEUTRAL, report.RIGHT, report.WRONG, report.NEUTRAL]
    assert [int(a.images[0].get_array()[0, 0]) for a in axes] == [0, 1, 2, 3]


def test_the_marks_of_a_run_agree_with_its_labels(workdir):
    axes = report.search_grid(load_run(workdir)).axes
    columns = 9
    marks = 0
    for start in range(0, len(axes), columns):
        true = axes[start].get_title()
        for neighbour in axes[start + 1 : start + columns]:
            mark, label, _ = neighbour.get_title().split()
            assert mark == ("✓" if label == true else "✗")
            marks += 1
    assert marks == 80
    assert {axes[i].get_title() for i in range(0, len(axes), columns)} == set("0123456789")


def test_the_page_holds_its_pictures_and_escapes_text(tmp_path):
    path = tmp_path / "page.html"
    report.write_page(path, "a < b", [("A & B", report.table(("<x>",), [("1",)]))])
    text = path.read_text()
    assert "<title>a &lt; b</title>" in text
    assert "<h2>A &amp; B</h2>" in text
    assert "<th>&lt;x&gt;</th>" in text
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("labels", [np.array([0, 0, 0, 1, 1, 2]), None])
def test_queries_are_spread_over_the_classes(labels):
    chosen = report._spread_over_classes(labels, 6)
    assert chosen == ([0, 3, 5, 1, 4, 2] if labels is not None else list(range(6)))
