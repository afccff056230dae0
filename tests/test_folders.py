import numpy as np
import pytest
from PIL import Image

from vision_jax.data.folders import open_folder
from vision_jax.data.loader import read_all
from vision_jax.data.sources import open_source
from vision_jax.errors import InputError


def write(path, value, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


@pytest.fixture
def labelled(tmp_path):
    """Class folders cat and dog; a cat's pixels are its number, a dog's 100 more."""
    for number in range(10):
        write(tmp_path / "cat" / f"{number}.png", number)
        write(tmp_path / "dog" / "deep" / f"{number}.PNG", 100 + number)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_folders_are_classes(labelled):
    rows = read_all(open_source(str(labelled), "all", channels=1))
    source = open_source(str(labelled), "all", channels=1)
    assert source.label_names == ("cat", "dog")
    assert sorted(rows["image"][:, 0, 0, 0].tolist()) == [*range(10), *range(100, 110)]
    np.testing.assert_array_equal(rows["label"], rows["image"][:, 0, 0, 0] >= 100)
    np.testing.assert_array_equal(source.labels(), rows["label"])
    assert source.key(0).startswith(str(labelled))


def test_without_splits_each_class_is_divided_80_to_20(labelled):
    parts = {s: read_all(open_source(str(labelled), s)) for s in ("train", "test")}
    np.testing.assert_array_equal(np.bincount(parts["train"]["label"]), [8, 8])
    np.testing.assert_array_equal(np.bincount(parts["test"]["label"]), [2, 2])
    values = [set(part["image"][:, 0, 0, 0].tolist()) for part in parts.values()]
    assert not values[0] & values[1]


def test_split_folders_are_splits(tmp_path):
    for split, count in (("train", 5), ("val", 2)):
        for number in range(count):
            write(tmp_path / split / "a" / f"{number}.png", number)
            write(tmp_path / split / "b" / f"{number}.png", number)
    sizes = {s: len(open_source(str(tmp_path), s)) for s in ("train", "validation", "train[:50%]")}
    assert sizes == {"train": 10, "validation": 4, "train[:50%]": 5}
    assert len(open_source(str(tmp_path), "all")) == 14
    with pytest.raises(InputError, match="nothing at 'test'; its splits: train, validation"):
        open_source(str(tmp_path), "test")


def test_a_flat_folder_has_no_labels(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.png", number)
    source = open_source(str(tmp_path), "all")
    assert source.label_names is None
    assert source.labels() is None
    assert source.read([0])[0].keys() == {"image"}


def test_sizes_must_agree_unless_one_is_asked_for(tmp_path):
    write(tmp_path / "a.png", 1)
    write(tmp_path / "b.png", 2, size=(6, 5))
    source = open_source(str(tmp_path), "all")
    with pytest.raises(InputError, match=r"[ab]\.png has shape .*--data.image-size"):
        source.read([0, 1])
    resized = open_folder(tmp_path, "all", image_size=3, channels=3)
    assert [row["image"].shape for row in resized.read([0, 1])] == [(3, 3, 3)] * 2


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="holds 0 images"):
        open_source(str(tmp_path), "all")
