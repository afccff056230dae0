"""Images brought to rectangles by cropping, padding and stretching, against Pillow."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from vision_jax.data.catalog import open_source
from vision_jax.data.decode import read_image
from vision_jax.data.resize import Resize
from vision_jax.errors import InputError

BILINEAR = Image.Resampling.BILINEAR


def photograph(height, width):
    return Image.fromarray(load_sample_images().images[0]).crop((0, 0, width, height))


def read(image, size, **resize):
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return read_image(file.getvalue(), channels=3, size=size, resize=Resize(**resize))


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (50, 50), (33, 200)])
@pytest.mark.parametrize("shape", [(427, 640), (301, 200), (50, 50), (9, 400)])
def test_every_way_equals_pillows(shape, size):
    image, (height, width) = photograph(*shape), size
    if height != width:  # squares are cut at whole pixels
        cropped = ImageOps.fit(image, (width, height), BILINEAR)
        assert np.abs(read(image, size).astype(int) - np.asarray(cropped)).max() <= 1
    stretched = image.resize((width, height), BILINEAR)
    np.testing.assert_array_equal(read(image, size, fit="stretch"), stretched)
    bicubic = image.resize((width, height), Image.Resampling.BICUBIC)
    found = read(image, size, fit="stretch", interpolation="bicubic")
    np.testing.assert_array_equal(found, bicubic)
    padded = ImageOps.pad(image, (width, height), BILINEAR, color=0)
    np.testing.assert_array_equal(read(image, size, fit="pad"), padded)


@pytest.mark.parametrize(("shape", "size"), [((427, 640), (64, 96)), ((300, 200), (96, 40))])
def test_a_margin_is_cropped_off_a_rectangle(shape, size):
    image, (height, width) = photograph(*shape), size
    covering = ImageOps.fit(image, (round(width / 0.8), round(height / 0.8)), BILINEAR)
    left, top = ((a - b) / 2 for a, b in zip(covering.size, (width, height), strict=True))
    expected = covering.crop((round(left), round(top), round(left) + width, round(top) + height))
    found = read(image, size, crop=0.8).astype(int)
    assert np.abs(found - np.asarray(expected)).mean() < 6  # to half a pixel


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_jpeg_differs_little_from_a_whole_one(orientation):
    large = Image.fromarray(load_sample_images().images[0]).resize((2560, 1708))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    large.save(file, "JPEG", quality=95, exif=exif)
    whole = ImageOps.exif_transpose(Image.open(file))
    for fit in ("crop", "pad", "stretch"):
        found = read_image(file.getvalue(), channels=3, size=(64, 300), resize=Resize(fit=fit))
        expected = read(whole, (64, 300), fit=fit).astype(int)
        assert np.abs(found - expected).mean() < 5  # its sides are whole pixels at an eighth, too


def test_a_source_takes_a_rectangle_and_a_fit(tmp_path, data_dir):
    photograph(300, 200).save(tmp_path / "a.png")
    source = open_source(tmp_path, "all", image_size=(40, 60), fit="pad")
    assert source.image_shape == (40, 60, 3)
    expected = ImageOps.pad(photograph(300, 200), (60, 40), BILINEAR, color=0)
    np.testing.assert_array_equal(source.read([0])[0]["image"], expected)
    digits = open_source("digits", "test", data_dir=data_dir, image_size=(8, 12), fit="pad")
    plain = open_source("digits", "test", data_dir=data_dir)
    (found,), (stored,) = digits.read([3]), plain.read([3])
    np.testing.assert_array_equal(found["image"], np.pad(stored["image"], [(0, 0), (2, 2), (0, 0)]))
    for options, message in [
        ({"fit": "pad"}, "pad takes an image_size, and crop 1"),
        ({"fit": "pad", "image_size": 8, "crop": 0.5}, "pad takes an image_size, and crop 1"),
        ({"image_size": (8, 0)}, r"image_size is \(8, 0\)"),
    ]:
        with pytest.raises(InputError, match=message):
            open_source(tmp_path, "all", **options)
