import numpy as np
import pytest

from vision_jax.data.boxes import pixel_box, region_weights
from vision_jax.errors import InputError


def test_a_cell_counts_by_how_much_of_it_is_covered():
    box, size, grid = (3, 2, 17, 12), (21, 14), (7, 3)
    drawn = np.zeros((14, 21))
    drawn[2:12, 3:17] = 1
    wanted = drawn.reshape(7, 2, 3, 7).mean((1, 3))
    np.testing.assert_allclose(region_weights(box, size, grid), wanted, atol=1e-12)
    np.testing.assert_allclose(region_weights(drawn, size, grid), wanted, atol=1e-12)
    uneven = region_weights((0.5, 0.5, 2.25, 1.0), (5, 3), (2, 4))  # cells of 1.25x1.5
    np.testing.assert_allclose(uneven, np.outer([1 / 3, 0], [0.6, 0.8, 0, 0]), atol=1e-12)
    many = np.random.default_rng(0).random((14, 21))
    fine = np.repeat(np.repeat(many, 4, 0), 5, 1).reshape(4, 14, 5, 21).mean((1, 3))
    np.testing.assert_allclose(region_weights(many, size, (4, 5)), fine, atol=1e-12)


def test_fractions_are_of_the_image():
    assert pixel_box((0, 0.25, 0.5, 1), (40, 20)) == (0, 5, 20, 20)
    assert pixel_box((0, 1, 2, 3), (40, 20)) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((5, 5, 5, 9), "box is 5 5 5 9; 0 <= x0 < x1 <= 40 and 0 <= y0 < y1 <= 20 are needed"),
        ((0, 0, 41, 9), "box is 0 0 41 9"),
        ((-0.5, 0, 1, 1), r"box is -0\.5 0 1 1"),
        ((0, float("nan"), 1, 1), "4 numbers are needed"),
        ((0, 0, 1), "4 numbers are needed"),
        (np.zeros((20, 40)), r"values in \[0, 0\]"),
        (np.ones((40, 20)), r"shape \(20, 40\)"),
    ],
)
def test_what_is_no_part_of_the_image_is_refused(box, told):
    with pytest.raises(InputError, match=told):
        region_weights(box, (40, 20), (2, 2))
