import io

import numpy as np
import pytest
from PIL import Image

from vision_jax.data import decode
from vision_jax.data.decode import read_image
from vision_jax.errors import InputError


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def test_png_round_trip_is_exact(pixels, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(Image.fromarray(pixels)))
    np.testing.assert_array_equal(read_image(path, channels=3), pixels)


def test_grey_is_one_channel_and_widens_to_three(pixels):
    data = encoded(Image.fromarray(pixels[..., 0]))
    np.testing.assert_array_equal(read_image(data, channels=1), pixels[..., :1])
    np.testing.assert_array_equal(read_image(data, channels=3), pixels[..., :1].repeat(3, -1))


def test_transparency_is_laid_on_white(pixels):
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    alpha[0] = 255
    data = encoded(Image.fromarray(np.dstack([pixels, alpha])))
    image = read_image(data, channels=3)
    np.testing.assert_array_equal(image[0], pixels[0])
    assert (image[1:] == 255).all()


def test_sixteen_bits_keep_their_high_byte():
    deep = np.array([[0, 256, 65535]], np.uint16)
    image = read_image(encoded(Image.fromarray(deep)), channels=1)
    np.testing.assert_array_equal(image[..., 0], [[0, 1, 255]])


def test_palette_and_first_frame(pixels):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_image(data, channels=1) == 10).all()


def test_orientation_is_applied(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    data = encoded(Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(read_image(data, channels=3), np.rot90(pixels, -1))


def test_size_resizes_the_shorter_side_and_cuts_the_centre():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    image = read_image(encoded(Image.fromarray(wide)), channels=3, size=10)
    np.testing.assert_array_equal(image, wide[:, 10:20])
    assert read_image(encoded(Image.fromarray(wide)), channels=3, size=5).shape == (5, 5, 3)


def test_bad_files_are_named(pixels, tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(encoded(Image.fromarray(pixels))[:60])
    with pytest.raises(InputError, match=r"cut\.png is no readable image"):
        read_image(path, channels=3)
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png", channels=3)
    with pytest.raises(InputError, match="no readable image"):
        read_image(b"<svg/>", channels=3)


def test_too_many_pixels_are_refused_before_they_are_decoded(pixels, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 50)
    with pytest.raises(InputError, match="9x6 pixels; at most 50"):
        read_image(encoded(Image.fromarray(pixels)), channels=3)
