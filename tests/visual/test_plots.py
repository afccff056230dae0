import io
import itertools

import numpy as np
from matplotlib.colors import to_hex

from vision_jax.visual.plots import (
    NEUTRAL,
    RIGHT,
    WRONG,
    axis_names,
    confusion_matrix,
    learning_curves,
    neighbour_grid,
    show_image,
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
    show_image(axes, np.zeros((4, 4, 3), np.uint8), name, "black")
    buffer = io.BytesIO()
    write_png(axes.figure, buffer)
    assert axes.get_title() == name
    assert buffer.getvalue()


def test_right_neighbours_are_green_and_wrong_ones_red():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(2, 1).repeat(2, 2)
    figure = neighbour_grid(
        images[:1], ["query"], [images[1:]], [["x", "y", "z"]], [[True, False, None]]
    )
    axes = figure.axes
    assert [a.get_title() for a in axes] == ["query", "✓ x", "✗ y", "z"]
    colors = [to_hex(a.spines["left"].get_edgecolor()) for a in axes]
    assert colors == [NEUTRAL, RIGHT, WRONG, NEUTRAL]
    assert [int(a.images[0].get_array()[0, 0]) for a in axes] == [0, 1, 2, 3]


def test_long_titles_do_not_run_into_each_other():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    names = ["a class of a very long name", "W" * 30, "i" * 90, "7"]
    titles = [f"{name}\n0.98" for name in names]
    figure = neighbour_grid(images[:1], names[:1], [images], [titles], [[True] * 4])
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0
    shown = [axes.get_title().split("\n")[0] for axes in figure.axes[1:]]
    assert [text.endswith("…") for text in shown] == [True, True, True, False]
    assert all(
        text.removesuffix("…") in f"✓ {name}" for text, name in zip(shown, names, strict=True)
    )


def test_letters_that_the_font_lacks_warn_of_nothing(tmp_path):
    names = ["金毛寻回犬" * 9, "🐶"]
    write_png(confusion_matrix(np.eye(2, dtype=int), names), tmp_path / "matrix.png")
    assert axis_names(names)[1] == "🐶"
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.png"]
