import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_images

from vision_jax.cli import main
from vision_jax.data.catalog import open_source
from vision_jax.data.loader import read_all
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.inspection.copies import find_copies
from vision_jax.inspection.files import open_splits
from vision_jax.inspection.pixels import mean_and_deviation, read_pixels
from vision_jax.inspection.survey import inspect
from vision_jax.inspection.tables import class_counts, options, summary, title, to_json


@pytest.fixture(scope="module")
def crops():
    """Real images: 60 different parts of two photographs, 64x64."""
    return [
        photo[top : top + 64, left : left + 64]
        for photo in load_sample_images().images
        for top in range(0, 6 * 64, 64)
        for left in range(0, 5 * 128, 128)
    ]


@pytest.fixture(scope="module")
def folder(crops, tmp_path_factory):
    """The crops in two splits and two classes, with planted copies."""
    root = tmp_path_factory.mktemp("photos")
    for number, crop in enumerate(crops):
        split = "train" if number % 3 else "test"
        save(root / split / "ab"[number % 2] / f"{number:02}.png", crop)
    save(root / "train" / "b" / "same-of-00.png", crops[0])  # another class and split
    save(root / "test" / "b" / "same-of-01.png", crops[1])  # another split
    save(root / "train" / "b" / "same-of-05.png", crops[5])
    save(root / "test" / "a" / "jpeg-of-20.jpg", crops[20], quality=80)
    bright = np.clip(crops[11].astype(np.int64) + 12, 0, 255).astype(np.uint8)
    save(root / "train" / "a" / "bright-of-11.png", bright)
    return root


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


@pytest.fixture(scope="module")
def found(folder):
    source, files = open_splits(str(folder))
    return inspect(source, files=files)


def names_of(found, groups):
    return [
        (
            {Path(found.source.key(row)).stem.removeprefix("same-of-") for row in group.rows},
            group.across_labels,
            group.across_splits,
        )
        for group in groups
    ]


def test_planted_copies_are_found_the_worst_first_and_nothing_else(found):
    assert names_of(found, found.exact) == [
        ({"00"}, True, True),
        ({"01"}, False, True),
        ({"05"}, False, False),
    ]
    assert names_of(found, found.near) == [
        ({"11", "bright-of-11"}, True, False),
        ({"20", "jpeg-of-20"}, False, True),
    ]
    assert all(min(group.cosines) >= found.threshold for group in found.near)


def test_copies_are_those_of_a_direct_comparison(digits):
    images, labels = digits
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.concatenate([np.arange(300), np.arange(40), np.arange(40)]))
    pixels = images[rows].reshape(len(rows), -1)
    vectors = pixels.astype(np.float32)
    splits = rng.choice(["train", "test"], len(rows))
    exact, near = find_copies(
        [row.tobytes() for row in pixels], vectors, 1.0, splits=splits, labels=labels[rows]
    )
    expected = {
        tuple(same)
        for row in pixels
        if len(same := np.flatnonzero((pixels == row).all(1)).tolist()) > 1
    }
    assert {group.rows for group in exact} == expected
    assert len(expected) == 40
    assert near == []
    for group in exact:
        assert group.across_splits == (len({splits[row] for row in group.rows}) > 1)


def test_mean_and_deviation_are_numpys(crops):
    images = np.stack(crops)
    pixels = read_pixels(ArraySource.from_arrays(images))
    means, deviations = mean_and_deviation(pixels.histograms["all"])
    exact = images.astype(np.float64) / 255
    np.testing.assert_allclose(means, exact.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(deviations, exact.std((0, 1, 2)), rtol=1e-12)
    # 2 pixels whose squares differ by less than a sum of squares could hold as floats.
    histogram = np.zeros((1, 256), np.int64)
    histogram[0, [254, 255]] = 2**52, 1
    (deviation,) = mean_and_deviation(histogram)[1]
    np.testing.assert_allclose(deviation, 2**-26 / 255, rtol=1e-12)


def test_images_of_one_colour_are_near_nothing(crops):
    flat = [np.full((64, 64, 3), value, np.uint8) for value in (0, 90, 91, 255)]
    source = ArraySource.from_arrays(np.stack([*crops[:4], *flat]))
    found = inspect(source, threshold=0.5)
    assert (found.pixels.thumbnails[4:] == 0).all()
    assert found.exact == []
    assert all(row < 4 for group in found.near for row in group.rows)


def test_counts_are_those_of_the_folder(found, folder):
    for split, row in zip(*class_counts(found), strict=True):
        expected = [len(list((folder / split / name).iterdir())) for name in "ab"]
        assert row.tolist() == expected
    assert found.files.kinds == {("PNG", "RGB"): 64, ("JPEG", "RGB"): 1}
    assert found.files.sizes == {(64, 64): 65}


def test_sizes_and_modes_are_counted_and_many_sizes_brought_to_one(crops, tmp_path):
    grey = crops[0].mean(-1).astype(np.uint8)
    save(tmp_path / "grey.png", grey)
    save(tmp_path / "small.png", grey[:32])
    Image.fromarray(grey).convert("1").save(tmp_path / "one.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    source, files = open_splits(str(tmp_path))
    assert files.sizes == {(64, 64): 3, (64, 32): 1}
    assert {mode for _, mode in files.kinds} == {"L", "1", "I;16"}
    assert source.image_shape == (64, 64, 1)
    assert source.label_names is None
    text = summary(inspect(source, files=files))
    assert "16-bit grey (1)" in text
    assert "2; most frequent 64x64 (3), 64x32 (1)" in text
    assert f"--data.name {tmp_path} --data.image-size 64 --data.channels 1 --data.mean" in text
    Image.fromarray(crops[0]).convert("RGBA").save(tmp_path / "rgba.png")
    assert open_splits(str(tmp_path))[0].image_shape == (64, 64, 3)


def test_the_options_are_those_of_the_training_split(found, folder):
    train = read_all(open_splits(str(folder), ["train"])[0])["image"].astype(np.float64) / 255
    words = options(found).split()
    place = words.index("--data.mean")
    assert words[:2] == ["--data.name", str(folder)]
    np.testing.assert_allclose(
        np.array(words[place + 1 : place + 4], np.float64), train.mean((0, 1, 2)), atol=5.1e-5
    )
    np.testing.assert_allclose(
        np.array(words[place + 5 :], np.float64), train.std((0, 1, 2)), atol=5.1e-5
    )


def test_the_command_prints_and_writes_all_of_it(folder, tmp_path, capsys):
    page, findings = tmp_path / "a.html", tmp_path / "a.json"
    words = ["inspect", str(folder), "--out", str(page), "--json", str(findings)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert (
        "exact duplicates: 3 groups of 6 images, 1 with different labels, 2 across splits"
        in printed
    )
    assert "same-of-00.png" in printed
    content = json.loads(findings.read_text())
    assert content["images"] == 65
    assert content["splits"]["test"]["classes"] == {"a": 11, "b": 11}
    keys = [image["key"] for image in content["near_duplicates"][1]["images"]]
    assert {Path(key).name for key in keys} == {"20.png", "jpeg-of-20.jpg"}
    text = page.read_text()
    for head in ("Splits", "Files", "Classes", "Samples", "Pixel values", "Exact duplicates"):
        assert f"<h2>{head}</h2>" in text
    # Two figures, ten images per class, and the images of five groups.
    assert text.count("data:image/png;base64,") == 2 + 20 + 10


@pytest.fixture
def damaged(crops, tmp_path):
    """A folder of 12 images in two classes, and functions that damage one in its head or body."""
    for number, crop in enumerate(crops[:12]):
        save(tmp_path / "images" / "ab"[number % 2] / f"{number:02}.png", crop)
    files = sorted((tmp_path / "images").rglob("*.png"))

    def damage(*rows, body=False):
        for row in rows:
            whole = files[row].read_bytes()
            files[row].write_bytes(whole[: len(whole) // 2] if body else b"no image")

    return tmp_path / "images", damage


@pytest.mark.parametrize("body", [False, True])
def test_damaged_files_are_named_in_one_line(damaged, body, tmp_path, capsys):
    folder, damage = damaged
    damage(4, 7, body=body)
    assert main(["inspect", str(folder), "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vision-jax: ")
    assert "08.png is not a readable image" in error or "03.png is not a readable image" in error
    assert "set --bad-files to skip" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("rows", [[4], list(range(3, 12))])
def test_damaged_files_are_skipped_and_counted(damaged, rows, tmp_path, capsys):
    folder, damage = damaged
    damage(*rows[::2])
    damage(*rows[1::2], body=True)
    out = ["--out", str(tmp_path / "page.html"), "--json", str(tmp_path / "a.json")]
    assert main(["inspect", str(folder), "--bad-files", "skip", *out]) == 0
    printed = capsys.readouterr()
    left, count = 12 - len(rows), f"{len(rows)} bad file{'s' * (len(rows) > 1)} skipped"
    assert f"{left} images, 2 classes, read as 64x64x3, {count}" in printed.out
    assert printed.err.count("vision-jax: ") == 1  # a slow machine shows a bar too
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["images"], content["skipped"]) == (left, len(rows))
    assert sum(count for *_, count in content["files"]) == left
    assert count in (tmp_path / "page.html").read_text()


def test_images_of_many_sizes_are_read_as_they_are_when_opened_so(crops, tmp_path):
    """Opened once at any size and then brought to one, they are as if opened at that size."""
    for number, crop in enumerate(crops[:6]):
        save(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", crop[: 40 + 4 * number])
    source, _ = open_splits(str(tmp_path))
    again = open_source(str(tmp_path), "all", image_size=source.image_shape[0])
    assert source.image_shape == again.image_shape == (50, 50, 3)
    for name, rows in read_all(again).items():
        np.testing.assert_array_equal(read_all(source)[name], rows)
    assert [source.key(i) for i in range(6)] == [again.key(i) for i in range(6)]


def test_sizes_may_be_rectangles_and_not_0(crops, tmp_path, capsys):
    for number, crop in enumerate(crops[:4]):
        save(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", crop[: 40 + 4 * number])
    words = ["inspect", str(tmp_path / "images"), "--out", str(tmp_path / "page.html")]
    assert main([*words, "--image-size", "24", "32"]) == 0
    printed = capsys.readouterr().out
    assert "read as 32x24x3" in printed
    assert "--data.image-size 24 32" in printed
    assert main([*words, "--image-size", "0"]) == 2
    assert "--image-size is 0; it must be at least 1" in capsys.readouterr().err


def test_prepared_images_keep_the_keys_of_their_splits(data_dir):
    source, files = open_splits("digits", data_dir=data_dir)
    keys = [source.key(0), source.key(len(source) - 1)]
    assert sorted(key.split("/")[1] for key in keys) == ["test", "train"]
    assert files.sizes == {(8, 8): 1797}


def test_a_threshold_out_of_range_is_named(small_source):
    with pytest.raises(InputError, match=r"threshold is 1.5; it must be in \(0, 1\]"):
        inspect(small_source, threshold=1.5)


def test_photographs_that_lie_on_their_side_are_counted_upright(crops, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for number, turned in enumerate(({}, {}, {"exif": exif})):
        save(tmp_path / f"{number}.jpg", crops[number][:48], **turned)
    source, files = open_splits(tmp_path)
    assert files.sizes == {(64, 48): 2, (48, 64): 1}
    assert source.image_shape == (48, 48, 3)
    assert len(read_all(source)["image"]) == 3


def test_labels_of_which_an_image_has_several_are_counted(crops, tmp_path):
    for number in range(4):
        save(tmp_path / f"{number}.png", crops[number])
    rows = [f"{number}.png,{labels},train" for number, labels in enumerate(["a|b", "a", "", "b|a"])]
    (tmp_path / "l.csv").write_text("\n".join(["file,labels,split", *rows]))
    found = inspect(open_splits(tmp_path / "l.csv")[0])
    assert "4 images, 2 labels, read as 64x64x3" in title(found)
    assert json.loads(to_json(found))["splits"]["train"]["classes"] == {"a": 3, "b": 2}
