import os
import shutil

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.catalog import open_source
from vision_jax.data.folder_tree import read_tree
from vision_jax.data.loader import read_all
from vision_jax.errors import DataWarning, InputError


def write(path, value, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


@pytest.fixture
def labelled(tmp_path):
    """Class folders cat and dog; a cat's pixels are its number, a dog's 100 more."""
    for number in range(10):
        write(tmp_path / "cat" / f"{number}.png", number)
        write(tmp_path / "dog" / "deep" / f"{number}.PNG", 100 + number)
    (tmp_path / "cat" / ".DS_Store").write_text("left out without a word")
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
    with pytest.raises(
        InputError, match=r"nothing at 'test'; its splits: train \(10\), validation \(4\)"
    ):
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
    with pytest.raises(InputError, match=r"[ab]\.png has shape .*sizes take image_size"):
        source.read([0, 1])
    resized = open_source(tmp_path, "all", image_size=3, channels=3)
    assert [row["image"].shape for row in resized.read([0, 1])] == [(3, 3, 3)] * 2


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="holds 0 images"):
        open_source(str(tmp_path), "all")


def keys_of(*sources):
    return [{source.key(i) for i in range(len(source))} for source in sources]


def values_by_label(source):
    """The first pixel of every image, by the name of its label."""
    rows = read_all(source)
    found = {name: set() for name in source.label_names}
    for image, label in zip(rows["image"], rows["label"], strict=True):
        found[source.label_names[label]].add(int(image[0, 0, 0]))
    return found


def test_what_systems_leave_behind_is_passed_over(labelled):
    for name in (".git", "__MACOSX", "@eaDir", "cat/.ipynb_checkpoints"):
        write(labelled / name / "x.png", 255)
    for name in ("Thumbs.db", "cat/desktop.ini", "dog/._3.png"):
        (labelled / name).write_text("")
    source = open_source(str(labelled), "all")
    assert values_by_label(source) == {"cat": set(range(10)), "dog": set(range(100, 110))}


def test_files_that_are_no_images_by_name_are_counted_in_one_warning(labelled):
    for number in range(4):
        (labelled / "cat" / f"{number}.txt").write_text("a note")
    with pytest.warns(
        DataWarning, match=r"cat/0\.txt is not an image by its name; .*; and 1 more\."
    ):
        assert len(open_source(str(labelled), "all")) == 20
    assert len(open_source(str(labelled), "train")) == 16  # said once


def test_a_class_keeps_its_number_where_it_has_no_images(tmp_path):
    for split, classes in {"train": "abd", "test": "bcd"}.items():
        for name in classes:
            write(tmp_path / split / name / "1.png", ord(name))
    (tmp_path / "train" / "aa").mkdir()
    with pytest.warns(DataWarning) as caught:
        train, test = (open_source(str(tmp_path), split) for split in ("train", "test"))
    assert train.label_names == test.label_names == ("a", "aa", "b", "c", "d")
    assert values_by_label(test) == {"a": set(), "aa": set(), "b": {98}, "c": {99}, "d": {100}}
    assert len(caught) == 1
    findings = [f"{f.path} {f.what}" for f in read_tree(tmp_path).findings]
    assert findings == [
        "test/a is a class with 0 images here and some elsewhere",
        "aa is a class with 0 images",
        "train/c is a class with 0 images here and some elsewhere",
    ]


def test_an_image_beside_the_class_folders_takes_all_labels_away_with_a_warning(labelled):
    write(labelled / "stray.png", 3)
    with pytest.warns(DataWarning, match=r"stray\.png lies outside of the class folders"):
        assert open_source(str(labelled), "all").labels() is None


def test_a_split_without_labels_leaves_them_to_the_others(tmp_path):
    for name in "ab":
        write(tmp_path / "train" / name / "1.png", ord(name))
    write(tmp_path / "test" / "1.png", 7)
    assert open_source(str(tmp_path), "train").label_names == ("a", "b")
    assert open_source(str(tmp_path), "test").label_names is None


def test_split_folders_beside_others_are_never_taken_for_classes(tmp_path):
    for name in ("train/a", "Test/a", "valid/a", "val/a"):
        write(tmp_path / name / f"{name[:3]}.png", len(name))
    (tmp_path / "docs").mkdir()
    write(tmp_path / "stray.png", 1)
    with pytest.warns(DataWarning, match=r"stray\.png lies outside .*docs is not a split folder"):
        sizes = [len(open_source(str(tmp_path), s)) for s in ("train", "test", "validation")]
    assert sizes == [1, 1, 2]
    write(tmp_path / "docs" / "a.png", 1)
    with pytest.raises(InputError, match="images in Test, train, val, valid and in docs; only"):
        open_source(str(tmp_path), "train")


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car", "plane", "train"):
        write(tmp_path / name / "1.png", 1)
    with pytest.warns(DataWarning, match="train is named as a split, and is read as a class"):
        assert open_source(str(tmp_path), "all").label_names == ("car", "plane", "train")


@pytest.fixture
def harmed(labelled):
    """`labelled` with a bad file of every kind more, and the reason of each by its path."""
    whole = (labelled / "cat" / "1.png").read_bytes()
    cat = labelled / "cat"
    (cat / "cut.png").write_bytes(whole[:50])
    (cat / "empty.png").touch()
    (cat / "text.jpg").write_text("no image")
    (cat / "lost.png").symlink_to("nowhere.png")
    (cat / "loop.png").symlink_to("loop.png")
    (cat / "out.png").symlink_to(shutil.copy(cat / "1.png", labelled.parent / "outside.png"))
    (cat / "again").symlink_to(labelled, target_is_directory=True)
    (cat / "folder.png").mkdir()
    os.mkfifo(cat / "pipe.png")
    Image.new("1", (10_001, 10_000)).save(cat / "bomb.png")
    yield {
        "cut.png": "is not a readable image",
        "empty.png": "is empty",
        "text.jpg": "is not a readable image",
        "lost.png": "is a link to nowhere.png, which does not exist",
        "loop.png": "cannot be read: Too many levels of symbolic links",
        "out.png": f"is a link to {labelled.parent}/outside.png, outside of the folder, which is "
        "followed only if links is True",
        "again": "is a link to a folder, which is followed only if links is True",
        "folder.png": "is a folder, though it is named as an image",
        "pipe.png": "is a pipe, a socket or a device",
        "bomb.png": "has 10001x10000 pixels; at most 100,000,000 are read",
    }
    (labelled.parent / "outside.png").unlink()


def test_bad_files_are_refused_by_name_and_never_waited_for(labelled, harmed):
    for name, reason in harmed.items():
        path = labelled / "cat" / name
        others = [labelled / "cat" / other for other in harmed if other != name]
        away = [other.rename(labelled.parent / f"away-{other.name}") for other in others]
        with pytest.raises(InputError, match=f"cat/{name} {reason}"):
            read_all(open_source(str(labelled), "all"))
        for other, place in zip(others, away, strict=True):
            place.rename(other)
        assert path.is_symlink() or path.exists()


def test_bad_files_are_skipped_and_counted_and_no_good_one_changes_its_split(labelled, harmed):
    with pytest.warns(DataWarning, match="skipped 8 of 28 files of"):
        everything = open_source(str(labelled), "all", bad_files="skip")
    assert values_by_label(everything) == {"cat": set(range(10)), "dog": set(range(100, 110))}
    assert everything.skipped == 8
    with pytest.warns(DataWarning, match="skipped"):
        train, test = (open_source(str(labelled), s, bad_files="skip") for s in ("train", "test"))
    assert train.skipped + test.skipped == 8
    keys = keys_of(train, test)
    # What the same folder gives once every bad file is mended.
    for name in harmed:
        path = labelled / "cat" / name
        if name in ("again", "folder.png"):
            path.rename(labelled.parent / name)
        else:
            path.unlink()
            write(path, 1)
    mended = keys_of(*(open_source(str(labelled), split) for split in ("train", "test")))
    assert keys[0] < mended[0]
    assert keys[1] <= mended[1]


def test_a_folder_is_looked_through_once_until_it_changes(labelled):
    from vision_jax.data.decode_all import find_bad

    before = find_bad.cache_info()
    for _ in range(3):
        assert open_source(str(labelled), "all", bad_files="skip").skipped == 0
    assert find_bad.cache_info().misses == before.misses + 1
    (labelled / "cat" / "1.png").write_bytes(b"harmed")
    with pytest.warns(DataWarning, match=r"skipped 1 of 20 .*: .*1\.png is not a readable image"):
        assert open_source(str(labelled), "all", bad_files="skip").skipped == 1


def test_a_file_that_goes_bad_later_is_named(labelled):
    source = open_source(str(labelled), "all", bad_files="skip")
    (labelled / "cat" / "5.png").unlink()
    with pytest.raises(InputError, match=r"cat/5\.png does not exist"):
        read_all(source)
    with pytest.raises(InputError, match=r"cat/5\.png cannot be read: No such file"):
        source.digests()


def test_nothing_but_bad_files_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with (
        pytest.warns(DataWarning, match="skipped 1 of 1"),
        pytest.raises(InputError, match="holds 0 readable images at 'all' among 1 files"),
    ):
        open_source(str(tmp_path), "all", bad_files="skip")


def test_names_that_are_not_utf8_have_keys_that_can_be_written(tmp_path):
    write(tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(b"a\n\xff.png"), 1)
    source = open_source(str(tmp_path), "all", channels=1)
    assert source.label_names == ("caf\\xe9",)
    assert source.key(0) == f"{tmp_path}/caf\\xe9/a\\n\\xff.png"
    assert source.key(0).encode()
    assert source.read([0])[0]["image"].max() == 1
    assert len(source.digests()[0]) == 64


def test_a_link_within_the_folder_is_read(labelled):
    (labelled / "dog" / "cat.png").symlink_to("../cat/7.png")
    assert values_by_label(open_source(str(labelled), "all"))["dog"] == {7, *range(100, 110)}


def test_a_data_set_of_this_project_comes_before_a_folder_of_its_name(
    data_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "digits" / "a.png", 1)
    assert len(open_source("digits", "test", data_dir=data_dir)) == 360
    assert len(open_source("./digits", "all")) == 1
