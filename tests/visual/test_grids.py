import numpy as np
import pytest
from PIL import Image

from vision_jax.errors import InputError
from vision_jax.visual.grids import pair_grid, save_grid, tile, to_pixels


def test_pixels_are_rounded_and_clipped():
    images = np.array([-0.5, 0.0, 0.5 / 255 + 1e-4, 1.0, 1.5], np.float32)
    np.testing.assert_array_equal(to_pixels(images), [0, 0, 1, 255, 255])
    np.testing.assert_array_equal(to_pixels(np.float32([np.inf, -np.inf])), [255, 0])
    with pytest.raises(InputError, match="1 of 2 pixel values are NaN"):
        to_pixels(np.float32([0, np.nan]))


@pytest.mark.parametrize(("columns", "shape"), [(None, (8, 11)), (5, (2, 19)), (2, (8, 7))])
def test_tiles_lie_row_by_row(columns, shape):
    count = {None: 7, 5: 5, 2: 6}[columns]
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] + np.zeros(
        (1, 2, 3, 1), np.uint8
    )
    grid = tile(images, columns=columns)
    assert grid.shape[:2] == shape
    width = columns or 3
    for number in range(count):
        row, column = divmod(number, width)
        cell = grid[row * 3 : row * 3 + 2, column * 4 : column * 4 + 3]
        assert (cell == number).all()
    assert (grid == 255).sum() == grid.size - count * 6


def test_nothing_cannot_be_tiled():
    with pytest.raises(ValueError, match="0 images"):
        tile(np.zeros((0, 2, 3, 1), np.uint8))


def test_partners_lie_below():
    above, below = (np.full((3, 2, 2, 3), value, np.uint8) for value in (10, 20))
    grid = pair_grid(above, below)
    assert grid.shape == (5, 8, 3)
    assert set(np.unique(grid[:2])) == {10, 255}
    assert set(np.unique(grid[3:])) == {20, 255}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_grid_is_enlarged_without_blur(channels, tmp_path):
    grid = np.random.default_rng(0).integers(0, 256, (20, 100, channels), np.uint8)
    save_grid(tmp_path / "grid.png", grid)
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size == (500, 100)
        saved = np.asarray(image).reshape(100, 500, channels)
    np.testing.assert_array_equal(saved, grid.repeat(5, 0).repeat(5, 1))
