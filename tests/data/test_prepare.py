import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.data.catalog import open_source
from vision_jax.data.loader import read_all


@pytest.fixture
def photos(tmp_path):
    """Split folders with images of two sizes: with alpha, of 16 bits, turned by the camera."""
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for split, count in (("train", 6), ("val", 3)):
        for number in range(count):
            for name in ("Katze", "hund"):
                folder = tmp_path / "Photos 1" / split / name
                folder.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 256, (9 + number % 2, 12, 4), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}a.png")
                deep = pixels[..., 0].astype(np.uint16) * 257
                Image.fromarray(deep).save(folder / f"{number}b.png")
                Image.fromarray(pixels[..., :3]).save(folder / f"{number}c.jpg", exif=exif)
    return tmp_path / "Photos 1"


def as_set(source):
    rows = read_all(source)
    return sorted((i.tobytes(), int(k)) for i, k in zip(rows["image"], rows["label"], strict=True))


@pytest.mark.parametrize("written", [None, (8, 10)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_prepared_folder_is_the_folder(photos, tmp_path, written, channels, capsys):
    data_dir = str(tmp_path / "sets")
    words = ["prepare", str(photos), "--data-dir", data_dir, "--channels", str(channels)]
    assert main([*words, *([] if written is None else ["--image-size", *map(str, written)])]) == 0
    assert capsys.readouterr().out.startswith("photos_1: train 36, validation 18 -> ")
    for split in ("train", "validation"):
        options = {"image_size": (8, 10), "channels": channels}
        there = open_source(str(photos), split, **options)
        written_to = {} if written else {"image_size": (8, 10)}
        prepared = open_source("photos_1", split, data_dir=data_dir, **written_to)
        assert prepared.label_names == there.label_names == ("Katze", "hund")
        assert prepared.image_shape == there.image_shape
        assert as_set(prepared) == as_set(there)
    if written is None:
        whole = sorted(open_source(str(photos), "all").digests())
        assert sorted(
            open_source("photos_1", "all", data_dir=data_dir, image_size=8).digests()
        ) == (whole)


def test_images_of_one_size_and_no_label_need_no_size_asked_for(tmp_path):
    (tmp_path / "flat").mkdir()
    for number in range(10):
        Image.new("RGB", (5, 4), (number, 0, 0)).save(tmp_path / "flat" / f"{number}.bmp")
    words = ["prepare", str(tmp_path / "flat"), "--name", "reds", "--data-dir", str(tmp_path)]
    assert main(words) == 0
    source = open_source("reds", "all", data_dir=tmp_path)
    assert (source.image_shape, source.label_names) == ((4, 5, 3), None)
    assert sorted(read_all(source)["image"][:, 0, 0, 0].tolist()) == list(range(10))


def test_bad_images_are_named_or_left_out_when_a_folder_is_prepared(photos, tmp_path, capsys):
    (photos / "train" / "hund" / "0a.png").write_bytes(b"no image")
    for size in ([], ["--image-size", "8"]):
        words = ["prepare", str(photos), "--name", f"set{len(size)}", "--data-dir", str(tmp_path)]
        assert main([*words, *size]) == 2
        assert "hund/0a.png is not a readable image" in capsys.readouterr().err
        assert not list(tmp_path.glob(f"set{len(size)}/**/*.array_record*"))
        assert main([*words, *size, "--bad-files", "skip"]) == 0
        assert "train 35, validation 18" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--name Photos", "name is 'Photos'; a lower-case letter"),
        ("--name digits", "name is 'digits', which is one of"),
        ("--name there", "is there already; remove it, or give another name"),
        ("--name other --image-size 0", "--image-size is 0; it must be at least 1"),
    ],
)
def test_names_and_sizes_that_cannot_be_are_refused(photos, tmp_path, words, message, capsys):
    command = ["prepare", str(photos), "--data-dir", str(tmp_path), "--image-size", "4"]
    assert main([*command, "--name", "there"]) == 0
    assert main([*command, *words.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_class_that_tfds_would_call_otherwise_is_refused(tmp_path, capsys):
    for name in ("cat", "cat "):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (4, 4), number).save(tmp_path / "pets" / name / f"{number}.png")
    assert main(["prepare", str(tmp_path / "pets"), "--data-dir", str(tmp_path / "sets")]) == 2
    message = f"{tmp_path / 'pets'} has the class 'cat '; a name without spaces at its ends is"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sets").exists()


def test_a_size_is_for_folders(tmp_path, capsys):
    words = ["prepare", "digits", "--image-size", "4", "--data-dir", str(tmp_path)]
    assert main(words) == 2
    assert "'digits' is not a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
