"""What sources give people to look at: the original, whatever size a network takes."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from vision_jax.data.catalog import open_source
from vision_jax.data.sources import ArraySource, Concatenated, Subset


@pytest.mark.parametrize("turned", [False, True])
def test_a_file_is_shown_whole_and_in_colour(tmp_path, turned):
    photograph = Image.fromarray(load_sample_images().images[0])
    if turned:
        photograph = photograph.transpose(Image.Transpose.ROTATE_90)
    photograph.save(tmp_path / "a.png")
    source = open_source(tmp_path, "all", image_size=8, channels=1)
    found = source.picture(0, side=200)
    size = (133, 200) if turned else (200, 133)
    np.testing.assert_array_equal(found, np.asarray(photograph.resize(size, 2)))
    np.testing.assert_array_equal(source.picture(0, side=700), np.asarray(photograph))


def test_a_stored_image_is_shown_before_it_is_resized(data_dir, digits):
    small, large = (
        open_source("digits", "all", data_dir=data_dir, image_size=size) for size in (None, 32)
    )
    (stored,) = small.read([5])
    picture = large.picture(5, side=100)
    np.testing.assert_array_equal(picture, stored["image"].repeat(3, -1))


def test_parts_and_sums_of_sources_show_what_they_are_made_of():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 9, 3), np.uint8)
    source = ArraySource.from_arrays(pixels)
    whole = Concatenated.of([Subset.of(source, [3, 1]), source])
    np.testing.assert_array_equal([whole.picture(i, side=9) for i in range(3)], pixels[[3, 1, 0]])
    expected = Image.fromarray(pixels[1]).resize((3, 2), 2)
    np.testing.assert_array_equal(whole.picture(1, side=3), expected)
