"""Prepared data sets whose files are damaged, cut, missing or changed."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vision_jax.cli import main
from vision_jax.data.catalog import DATA_SETS, open_source
from vision_jax.data.check import check_data
from vision_jax.data.folders import FolderSource
from vision_jax.data.loader import read_all
from vision_jax.data.manifest import FILE
from vision_jax.data.prepare import prepare_folder
from vision_jax.data.prepared import own_builder
from vision_jax.errors import DataWarning, InputError

RECORDS = "tiny-train.array_record-00000-of-00001"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of 24 images in 3 classes, prepared as `tiny`."""
    root, random = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    for label in "abc":
        (root / "images" / label).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / label / f"{number}.png")
    prepare_folder(root / "images", "tiny", data_dir=str(root / "sets"))
    return root / "sets"


@pytest.fixture
def sets(prepared, tmp_path):
    """A copy of it, to be harmed."""
    return shutil.copytree(prepared, tmp_path / "sets")


def files(sets):
    return {path.name: path for path in (sets / "tiny" / "1.0.0").iterdir()}


def rows(sets, **options):
    source = open_source("tiny", "all", data_dir=sets, **options)
    return {**read_all(source), "names": np.array(source.label_names)}


def test_the_table_names_builders(tmp_path):
    for name, place in DATA_SETS.items():
        builder, there = own_builder(place, tmp_path)
        assert (builder.name, there) == (name, False)


def test_tfds_keeps_its_own_set_of_a_name():
    """It registers that when a prepared set is opened, and refuses the second of a name."""
    own_builder(DATA_SETS["fashion_mnist"], None)
    theirs = tfds.builder_cls("fashion_mnist")
    assert theirs.__module__.startswith("tensorflow_datasets.")


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        (RECORDS, lambda p: p.unlink(), f"{RECORDS} is missing; remove .*1.0.0 and prepare"),
        (RECORDS, lambda p: p.write_bytes(p.read_bytes()[:65000]), "has 65000 bytes; it was writ"),
        ("features.json", lambda p: p.write_bytes(p.read_bytes()[:100]), "features.json has chang"),
        ("features.json", lambda p: p.unlink(), "features.json is missing"),
        ("dataset_info.json", lambda p: p.unlink(), "dataset_info.json is missing"),
        ("label.labels.txt", lambda p: p.write_text("a\nb\nd\n"), "label.labels.txt has changed"),
        ("label.labels.txt", lambda p: p.unlink(), "label.labels.txt is missing"),
        (FILE, lambda p: p.write_text("{}"), "holds no checksums"),
        (FILE, lambda p: p.write_bytes(b"\xff"), "is not valid JSON"),
    ],
)
def test_a_file_that_is_cut_changed_or_missing_is_named(sets, name, harm, message, capsys):
    harm(files(sets)[name])
    for command in ("check tiny", "train cnn --workdir {sets}/run --data.name tiny --data."):
        words = f"{command}{'' if command.endswith('.') else ' --'}data-dir {sets}"
        assert main(words.format(sets=sets).split()) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("vision-jax: ")
    with pytest.raises(InputError, match=message):
        open_source("tiny", "train", data_dir=sets)


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        (RECORDS, lambda p: p.unlink(), f"{RECORDS} is missing"),
        (RECORDS, lambda p: p.write_bytes(p.read_bytes()[:65000]), f"{RECORDS} is damaged"),
        ("features.json", lambda p: p.write_bytes(b"{}"), "json cannot be read"),
        ("features.json", lambda p: p.write_bytes(b"{"), "features.json is not valid JSON"),
        ("dataset_info.json", lambda p: p.write_bytes(b"{}"), "dataset_info.json"),
        ("label.labels.txt", lambda p: p.write_text("a\n"), "names 1 classes; features.json has 3"),
        ("label.labels.txt", lambda p: p.write_text("a\na\nc\n"), "names 'a' twice"),
        ("label.labels.txt", lambda p: p.write_bytes(b"a\n\xe1\nc\n"), "is not UTF-8"),
    ],
)
def test_a_set_without_checksums_is_checked_for_what_it_must_hold(sets, name, harm, message):
    """As version 0.1 wrote it."""
    files(sets)[FILE].unlink()
    with pytest.warns(DataWarning, match="If its classes are not a, b, c, remove it and prepare"):
        before = rows(sets)
    assert len(before["image"]) == 24
    harm(files(sets)[name])
    with pytest.raises(InputError, match=message):
        rows(sets)


def test_a_damaged_record_is_named_or_skipped(sets, capsys):
    whole = rows(sets)
    path = files(sets)[RECORDS]
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=rf"tiny/all/\d+ cannot be read: .*{RECORDS} is damaged \("
    ):
        rows(sets)
    (finding,) = check_data("tiny", data_dir=str(sets)).findings
    assert finding.error
    with pytest.warns(DataWarning, match="skipped 1 of 24 images of tiny, all"):
        source = open_source("tiny", "all", data_dir=sets, bad_files="skip")
    assert (len(source), source.skipped) == (23, 1)
    kept = read_all(source)
    np.testing.assert_array_equal(source.labels(), kept["label"])
    assert len(source.splits()) == len(source.digests()) == 23
    bad = int(finding.path.rpartition("/")[2])
    np.testing.assert_array_equal(kept["image"], np.delete(whole["image"], bad, 0))
    assert finding.path not in [source.key(i) for i in range(23)]
    data[data.index(b"IDAT") + 8] ^= 1
    path.write_bytes(data)
    os.utime(path, (later := path.stat().st_mtime + 5, later))
    assert check_data("tiny", data_dir=str(sets)).errors == 0


def test_random_damage_never_changes_what_is_read(sets):
    whole, random = rows(sets), np.random.default_rng(0)
    for name, path in files(sets).items():
        data = path.read_bytes()
        for _ in range(3):
            harmed = bytearray(data)
            harmed[random.integers(len(data))] ^= 1 << random.integers(8)
            path.write_bytes(
                harmed[: random.integers(len(data))] if random.random() < 0.3 else harmed
            )
            try:
                found = rows(sets)
            except InputError:
                continue
            for key, values in whole.items():
                np.testing.assert_array_equal(found[key], values, err_msg=name)
        path.write_bytes(data)


@pytest.mark.filterwarnings("ignore:.* has no checksums.json")
def test_labels_outside_of_the_classes_are_named(sets):
    files(sets)[FILE].unlink()
    features = json.loads(files(sets)["features.json"].read_text())
    label = features["featuresDict"]["features"]["label"]["classLabel"]
    label["numClasses"] = "2"
    files(sets)["features.json"].write_text(json.dumps(features))
    files(sets)["label.labels.txt"].write_text("a\nb\n")
    with pytest.raises(InputError, match=r"has the label 2; a label in \[0, 2\) is needed"):
        rows(sets)


def test_a_config_or_version_that_was_asked_for_stays_in_the_name(sets):
    shutil.copytree(sets / "tiny" / "1.0.0", sets / "tiny" / "blue" / "1.0.0")
    for name, folder in (("tiny", "1.0.0"), ("tiny/blue", "blue"), ("tiny/blue:1.0.0", "blue")):
        source = open_source(name, "train", data_dir=sets)
        assert (source.name, source.key(3)) == (name, f"{name}/train/3")
        assert source.files[0][0].startswith(str(sets / "tiny" / folder))


@pytest.mark.filterwarnings("ignore:.* has no checksums.json")
def test_transparent_images_are_read_on_white(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(10):
        Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "images" / f"{number}.png")
    prepare_folder(tmp_path / "images", "tiny", data_dir=str(tmp_path))
    found = files(tmp_path)
    found[FILE].unlink()
    text = found["features.json"].read_text()
    assert text.count('"3"') == 1  # tfds's own sets have 4 channels where there is alpha
    found["features.json"].write_text(text.replace('"3"', '"4"'))
    source = open_source("tiny", "all", data_dir=tmp_path)
    assert source.image_shape == (4, 4, 3)
    assert (read_all(source)["image"] == 255).all()


def test_a_split_whose_labels_are_kept_secret_has_none(tmp_path, monkeypatch):
    for split in ("train", "test"):
        for number in range(4):
            (tmp_path / "images" / split / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            place = tmp_path / "images" / split / "ab"[number % 2] / f"{number}.png"
            Image.new("L", (4, 4), number).save(place)
    labels = FolderSource.labels
    monkeypatch.setattr(
        FolderSource, "labels", lambda s: labels(s) * 0 - 1 if s.split == "test" else labels(s)
    )
    prepare_folder(tmp_path / "images", "tiny", data_dir=str(tmp_path))
    test, train = (open_source("tiny", split, data_dir=tmp_path) for split in ("test", "train"))
    assert (test.label_names, test.labels(), list(test.read([0])[0])) == (None, None, ["image"])
    assert (train.label_names, sorted(train.labels())) == (("a", "b"), [0, 0, 1, 1])
    with pytest.raises(InputError, match="has the label -1"):
        open_source("tiny", "all", data_dir=tmp_path).labels()
