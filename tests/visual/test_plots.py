import io

import numpy as np

from vision_jax.visual.plots import (
    axis_names,
    confusion_matrix,
    learning_curves,
    write_png,
)


def test_curves_show_every_figure_of_both_parts():
    rows = [
        {"step": 1, "epoch": 1, "train/loss": 2.0, "validation/loss": 3.0, "train/accuracy": 0.1},
        {"step": 2, "epoch": 2, "train/loss": 1.0, "validation/loss": 2.5, "train/accuracy": 0.2},
    ]
    axes = learning_curves(rows).axes
    assert [a.get_title() for a in axes] == ["loss", "accuracy"]
    lines = {line.get_label(): line.get_ydata() for line in axes[0].lines}
    np.testing.assert_array_equal(lines["train"], [2.0, 1.0])
    np.testing.assert_array_equal(lines["validation"], [3.0, 2.5])


def test_the_confusion_matrix_shows_shares_and_counts():
    (axes,) = confusion_matrix(np.array([[3, 1], [0, 4]]), ("a", "b")).axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert [text.get_text() for text in axes.texts] == ["3", "1", "4"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_names_are_drawn_as_they_are_and_not_as_formulas():
    name = "x$_$y.png"
    (axes,) = confusion_matrix(np.eye(2, dtype=int), (name, "b")).axes
    buffer = io.BytesIO()
    write_png(axes.figure, buffer)
    assert axes.get_xticklabels()[0].get_text() == name
    assert buffer.getvalue()


def test_letters_that_the_font_lacks_warn_of_nothing(tmp_path):
    names = ["金毛寻回犬" * 9, "🐶"]
    write_png(confusion_matrix(np.eye(2, dtype=int), names), tmp_path / "matrix.png")
    assert axis_names(names)[1] == "🐶"
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.png"]
