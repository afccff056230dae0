"""Images brought to a size as torchvision and timm do, against Pillow on whole images."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from vision_jax.data.catalog import open_source
from vision_jax.data.decode import read_image
from vision_jax.data.resize import Resize, part_seen, to_size
from vision_jax.errors import InputError


def whole(image, size, crop, interpolation):
    """Scale the whole image, then crop: torchvision's Resize and CenterCrop."""
    shorter = round(size / crop)
    scaled = [int(shorter * side / min(image.size)) for side in image.size]
    image = image.resize(scaled, getattr(Image.Resampling, interpolation.upper()))
    left, top = (round((side - size) / 2) for side in scaled)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize(
    ("crop", "interpolation"),
    [(1.0, "bicubic"), (0.875, "bilinear"), (0.875, "bicubic"), (0.5, "bicubic")],
)
@pytest.mark.parametrize("shape", [(427, 640), (301, 200), (50, 50), (9, 400)])
def test_images_are_scaled_and_cropped_as_torchvision_does(tmp_path, shape, crop, interpolation):
    photograph = Image.fromarray(load_sample_images().images[0]).crop((0, 0, *shape[::-1]))
    photograph.save(tmp_path / "a.png")
    found = read_image(
        tmp_path / "a.png", channels=3, size=64, resize=Resize(crop, interpolation)
    ).astype(int)
    expected = whole(photograph, 64, crop, interpolation)
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - expected).mean() < 0.01


def test_a_reduced_jpeg_differs_little_from_a_whole_one():
    large = Image.fromarray(load_sample_images().images[0]).resize((2560, 1708))
    file = io.BytesIO()
    large.save(file, "JPEG", quality=95)
    found = read_image(file.getvalue(), channels=3, size=224, resize=Resize(0.875, "bicubic"))
    expected = whole(Image.open(file), 224, 0.875, "bicubic").astype(int)
    assert np.abs(found - expected).mean() < 1


def test_every_way_to_a_source_takes_crop_and_interpolation(tmp_path):
    photograph = Image.fromarray(load_sample_images().images[1])
    photograph.save(tmp_path / "a.png")
    source = open_source(tmp_path, "all", image_size=64, crop=0.875, interpolation="bicubic")
    expected = read_image(tmp_path / "a.png", channels=3, size=64, resize=Resize(0.875, "bicubic"))
    np.testing.assert_array_equal(source.read([0])[0]["image"], expected)
    for wrong in (0.0, 1.5):
        with pytest.raises(InputError, match=f"crop is {wrong}"):
            open_source(tmp_path, "all", image_size=64, crop=wrong)


def test_the_split_files_is_every_image_whatever_the_folders_are_called(tmp_path):
    for name in ("a.png", "train/b.png", "test/deep/c.png", "trip/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    source = open_source(tmp_path, "files", image_size=8)
    assert {key.removeprefix(f"{tmp_path}/") for key in map(source.key, range(4))} == {
        "a.png",
        "train/b.png",
        "test/deep/c.png",
        "trip/d.png",
    }
    assert source.label_names is None
    assert source.splits() == ["files"] * 4


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [30, (20, 50)])
@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_the_part_seen_is_what_an_image_becomes(fit, size, crop):
    width, height = 200, 120
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    ramps = np.stack([40 + 200 * x, 40 + 200 * y, 0 * x], -1).round().astype(np.uint8)
    resize = Resize(1.0 if fit != "crop" else crop, fit=fit)
    made = np.asarray(to_size(Image.fromarray(ramps), size, resize)).astype(float)
    left, top, right, bottom = part_seen((width, height), size, resize)
    rows, columns = made.shape[:2]
    across = left + (np.arange(columns) + 0.5) / columns * (right - left)
    down = top + (np.arange(rows) + 0.5) / rows * (bottom - top)
    inside = made[..., 0] > 39  # where there is no bar
    assert inside.any()
    off = np.abs(made[..., 0] - 40 - 200 * across[None] / width) * width / 200
    off = np.maximum(off, np.abs(made[..., 1] - 40 - 200 * down[:, None] / height) * height / 200)
    assert off[inside].max() < 1.5 * max((right - left) / columns, (bottom - top) / rows)
