"""Folders as people have them: names of splits, wrapping folders, links, and what is unusual."""

import inspect
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vision_jax.data import splits
from vision_jax.data.catalog import default_splits, open_data, open_source
from vision_jax.data.check import check_data
from vision_jax.data.folder_tree import read_tree
from vision_jax.data.loader import read_all
from vision_jax.errors import DataWarning, InputError

quick = settings(max_examples=30, deadline=None, derandomize=True, database=None)

NAMES = {
    "train": ["train", "Training", "TRAIN", "training_set", "train2017", "Train-Images"],
    "test": ["test", "Testing", "test_set", "TEST"],
    "validation": ["validation", "Valid", "val", "dev", "Validation Set"],
}


def touch(root, paths):
    """Makes files that are images by their names; the tree opens none."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def write(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


def by_split(tree):
    return {
        split: sorted((tree.labels.get(path), path) for path in paths)
        for split, paths in tree.files.items()
    }


def texts(findings):
    return [f"{finding.path} {finding.what}" for finding in findings]


@quick
@given(st.data())
def test_splits_are_found_whatever_they_are_called_and_wrapped_in(data):
    """Trees made of a known structure are read back as it."""
    splits = data.draw(st.sets(st.sampled_from(sorted(NAMES)), min_size=2))
    wrapper = "".join(f"{name}/" for name in data.draw(st.lists(st.sampled_from("xy"), max_size=2)))
    labels = st.sets(st.sampled_from(["cat", "dog", "eel", "train"]), min_size=1)
    classes = data.draw(labels.filter(lambda classes: classes != {"train"}))
    expected = {split: [] for split in splits}
    for split in sorted(splits):
        name = data.draw(st.sampled_from(NAMES[split]))
        inner = data.draw(st.sampled_from(["", f"{name}/"])) if len(classes) > 1 else ""
        for label in classes:
            for number in range(data.draw(st.integers(1, 3))):
                deeper = data.draw(st.sampled_from(["", "more/"]))
                path = f"{wrapper}{name}/{inner}{label}/{deeper}{number}.png"
                expected[split].append((label, path))
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        touch(root, [path for rows in expected.values() for _, path in rows])
        (root / "__MACOSX").mkdir()
        touch(root / "__MACOSX", ["._0.png", "cat/0.png"])
        tree = read_tree(root)
    assert by_split(tree) == {split: sorted(rows) for split, rows in expected.items()}
    assert tree.classes == tuple(sorted(classes))
    assert not tree.unlabelled


@quick
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "train", "Val", "x.png", "y.jpg", "n.txt"]), min_size=1)
        .map(lambda parts: [p for p in parts[:-1] if "." not in p] + [parts[-1]])
        .map("/".join),
        max_size=8,
    )
)
def test_any_tree_is_read_or_refused_and_no_image_is_lost(paths):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for path in paths:
            if not any((root / parent).is_file() for parent in Path(path).parents):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                if not (root / path).exists():
                    (root / path).touch() if "." in path else (root / path).mkdir()
        there = {str(p.relative_to(root)) for p in root.rglob("*.*") if p.suffix != ".txt"}
        try:
            tree = read_tree(root)
        except InputError:
            return
    used = Counter(path for files in tree.files.values() for path in files)
    left_out = {finding.path for finding in tree.findings if "left out" in finding.what}
    assert set(used.values()) == {1}
    assert set(used) | left_out >= there
    assert set(used) <= there
    for split, files in tree.files.items():
        if split not in tree.unlabelled:
            assert {tree.labels[path] for path in files} <= set(tree.classes)


def test_a_wrapped_folder_is_the_folder(tmp_path):
    paths = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(10)]
    touch(tmp_path / "plain", paths)
    touch(tmp_path / "zip" / "pets-main" / "pets", paths)
    plain, wrapped = read_tree(tmp_path / "plain"), read_tree(tmp_path / "zip")
    assert wrapped.classes == plain.classes == ("cat", "dog")
    for split, files in plain.files.items():
        assert wrapped.files[split] == [f"pets-main/pets/{path}" for path in files]
    assert texts(wrapped.findings) == [
        "pets-main/pets holds all images; its folders are the splits or classes"
    ]
    assert plain.findings == ()


def test_one_class_is_not_a_wrapper(tmp_path):
    touch(tmp_path, ["cat/1.png", "cat/young/2.png"])
    assert read_tree(tmp_path).classes == ("cat",)


def test_unknown_split_names_are_not_taken_for_classes_in_silence(tmp_path):
    touch(tmp_path, [f"{part}/{label}/1.png" for part in ("set_a", "set_b") for label in "xyz"])
    (finding,) = read_tree(tmp_path).findings
    assert finding.path == "set_a, set_b"
    assert finding.what.startswith("hold the same folders (x, y, z), and are read as classes")
    (tmp_path / "set_a").rename(tmp_path / "train")
    with pytest.raises(InputError, match="images in train and in set_b; only split folders"):
        read_tree(tmp_path)


def test_splits_within_classes_are_named(tmp_path):
    touch(tmp_path, [f"{label}/{part}/1.png" for part in ("train", "test") for label in "xy"])
    (finding,) = read_tree(tmp_path).findings
    assert finding.what.startswith("hold the same folders (test, train), and are read as classes")


def test_two_names_of_one_split_are_read_together_and_named(tmp_path):
    touch(tmp_path, ["train/a/1.png", "val/a/1.png", "valid/a/2.png"])
    tree = read_tree(tmp_path)
    assert {split: len(files) for split, files in tree.files.items()} == {
        "train": 1,
        "validation": 2,
    }
    assert "val and valid are read together, as validation" in texts(tree.findings)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"Train": 20, "Val": 4, "Test": 4}, ("train", "validation", "test")),
        ({"train": 20, "test": 4}, ("train[:90%]", "train[90%:]", "test")),
        ({"": 40}, ("train[:90%]", "train[90%:]", "test")),
    ],
)
def test_the_splits_to_train_on_are_those_that_are_there(folders, expected, tmp_path):
    for folder, count in folders.items():
        touch(tmp_path / folder, [f"{label}/{i}.png" for label in "ab" for i in range(count)])
    assert default_splits(tmp_path) == expected  # without a warning


@pytest.mark.parametrize("test", [{}, {"test": 3}, {"Val": 2}])
def test_small_sets_hold_out_single_images(test):
    """Every split holds an image, and none is trained on that another split measures."""
    for count in range(2, 25):
        sizes = {"train": count, **test}
        parts = [set(), set(), set()]
        for held, split in zip(parts, splits.default_splits(sizes, "x"), strict=True):
            for part in splits.parts_of(sizes, split, "x"):
                held.update((part.split, i) for i in range(part.start, part.stop))
        train, validation, tested = parts
        assert train
        assert validation
        assert tested
        assert not train & (validation | tested)
        if count > 2 and "Val" not in test:
            assert not validation & tested


def test_a_single_image_is_one_line(tmp_path):
    write(tmp_path / "a" / "1.png")
    data = open_data(tmp_path)
    with pytest.raises(InputError, match=r"has 1 training image; 2 are needed"):
        data.choose_splits()
    with pytest.warns(DataWarning, match=r"validation shares 1 examples"):
        assert data.choose_splits("train", "train").test == "train"
    write(tmp_path / "a" / "2.png")
    with pytest.warns(DataWarning, match=r"train\[-1:\] is one image, which alone chooses"):
        assert open_data(tmp_path).choose_splits().validation == "train[-1:]"


def test_a_missing_test_split_falls_back_with_a_warning(tmp_path):
    touch(tmp_path / "train", [f"{label}/{i}.png" for label in "ab" for i in range(40)])
    with pytest.warns(
        DataWarning, match=r"train\[90%:\] is reported at the end, since there is no"
    ):
        splits = default_splits(tmp_path)
    assert splits == ("train[:80%]", "train[80%:90%]", "train[90%:]")
    data = open_data(tmp_path)
    sizes = [len(data.select(split)) for split in splits]
    assert sizes == [64, 8, 8]
    assert len({path for split in splits for _, path in data.select(split)}) == 80
    touch(tmp_path / "val", ["a/1.png", "b/1.png"])
    with pytest.warns(DataWarning, match="validation is reported at the end"):
        assert default_splits(tmp_path) == ("train", "validation", "validation")
    assert default_splits(tmp_path, test="train[:5]", train="train[5:]").test == "train[:5]"


def test_what_is_unusual_for_training_is_said_before_it_and_by_check(tmp_path):
    for name, count in {"ant": 1, "bee": 30, "cat": 30}.items():
        for number in range(count):
            write(tmp_path / name / f"{number}.png", number)
    findings = [
        "ant is a class with 0 images in train[:10], and so is not trained on",
        "ant is a class with 0 images in test, and so is not tested",
        "validation shares 3 examples with what is trained on, train[:10]",
    ]
    data = open_data(tmp_path)
    assert sorted(texts(data.plan("train[:10]", "train[7:]", "test")[1])) == sorted(findings)
    with pytest.warns(DataWarning, match=r"training on .*: validation shares 3 examples"):
        data.choose_splits("train[:10]", "train[7:]", "test")
    (found,) = texts(check_data(tmp_path).findings)
    assert found == findings[1]


def test_one_class_and_a_test_split_without_labels_are_unusual(tmp_path):
    touch(tmp_path, [f"train/a/{i}.png" for i in range(10)])
    touch(tmp_path, [f"test/{i}.png" for i in range(3)])
    assert texts(open_data(tmp_path).plan()[1]) == [
        "train[90%:] is one image, which alone chooses the checkpoint",
        "test has no labels, though train[:90%] has: it cannot be evaluated",
        ". has one class, a; recognition takes two or more",
    ]


@pytest.mark.parametrize(
    ("paths", "split", "message"),
    [
        (["a/1.png"], "train[90%:]", r"nothing at 'train\[90%:\]'; its splits: train \(1\)"),
        (["a/1.png", "b/1.png"], "test", r"nothing at 'test'; its splits: train \(2\)"),
        (["train/a/1.png"], "train[:1%]", r"nothing at 'train\[:1%\]'; its splits: train \(1\)"),
        (["train/a/1.png"], "train[", "nothing at 'train\\['"),
        (["train/a/1.png"], "", "nothing at ''"),
    ],
)
def test_an_empty_slice_is_one_line_that_names_the_split(paths, split, message, tmp_path):
    touch(tmp_path, paths)
    for bad_files in ("error", "skip", "later"):
        with pytest.raises(InputError, match=message):
            open_source(tmp_path, split, bad_files=bad_files)


def test_a_folder_with_nothing_to_train_on_is_named(tmp_path):
    touch(tmp_path, ["test/a/1.png"])
    with pytest.raises(
        InputError, match=r"has the splits test \(1\); a split to train on is needed"
    ):
        default_splits(tmp_path)


@pytest.fixture
def linked(tmp_path):
    """Images in a pool, and folders of links to them, of linked classes and of a linked split."""
    for label in "ab":
        for number in range(10):
            write(tmp_path / "pool" / label / f"{number}.png", number + 100 * (label == "b"))
            link = tmp_path / "files" / label / f"{number}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"../../pool/{label}/{number}.png")
        (tmp_path / "folders").mkdir(exist_ok=True)
        (tmp_path / "folders" / label).symlink_to(f"../pool/{label}")
        write(tmp_path / "splits" / "test" / label / "1.png")
    (tmp_path / "splits" / "train").symlink_to("../pool")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "split"), [("files", "all"), ("folders", "all"), ("splits", "train")]
)
def test_links_are_followed_if_asked_to(linked, name, split):
    with pytest.raises(InputError, match="only if links is True"):
        open_source(linked / name, split)
    source = open_source(linked / name, split, links=True)
    assert source.label_names == ("a", "b")
    rows = read_all(source)
    assert sorted(rows["image"][:, 0, 0, 0].tolist()) == [*range(10), *range(100, 110)]
    np.testing.assert_array_equal(rows["label"], rows["image"][:, 0, 0, 0] >= 100)


def test_a_loop_of_links_ends_and_each_folder_is_read_once(linked):
    root = linked / "pool"
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "again").symlink_to("../b")
    (root / "b" / "there").symlink_to("../a")
    (root / "b" / "outside").symlink_to(linked)
    (root / "self").symlink_to("self")
    tree = read_tree(root, links=True)
    assert sum(map(len, tree.files.values())) == 20
    found = dict(text.split(" ", 1) for text in texts(tree.findings))
    assert found == {
        "a/again": "is read already by another path, and is left out",
        "a/up": "is a link to a folder that it lies in, and is left out",
        "b/outside": "is a link to a folder that it lies in, and is left out",
        "b/there": "is read already by another path, and is left out",
        "self": "is not an image by its name",
    }


def test_a_change_behind_a_link_is_noticed(linked):
    assert open_source(linked / "files", "all", bad_files="skip", links=True).skipped == 0
    (linked / "pool" / "a" / "1.png").write_bytes(b"harmed")
    with pytest.warns(DataWarning, match="skipped 1 of 20"):
        assert open_source(linked / "files", "all", bad_files="skip", links=True).skipped == 1


def test_a_path_is_a_folder_also_where_a_data_set_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "digits" / "a.png")
    for name in (Path("digits"), "./digits", "~/digits", os.fspath(tmp_path / "digits")):
        assert len(open_source(name, "all")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 3}, "name is 3; a data set's name or a folder is needed"),
        ({"name": ""}, "name is ''"),
        (
            {"bad_files": "ignore"},
            "bad_files is 'ignore'; it must be one of 'error', 'skip', 'later'",
        ),
        ({"truncated": True}, "truncated is True; it must be one of 'error', 'use'"),
        ({"channels": 4}, "channels is 4; it must be one of None, 1, 3"),
        ({"image_size": 0}, "image_size is 0; it must be at least 1"),
    ],
)
def test_arguments_out_of_range_are_named_with_their_choices(options, message, tmp_path):
    write(tmp_path / "a.png")
    with pytest.raises(InputError, match=message):
        # Not the tests' own checks of types.
        inspect.unwrap(open_data)(**{"name": tmp_path, **options})


FILES = {
    "good.png": lambda path: write(path, 7),
    "other.png": lambda path: write(path, 9),
    "bad.png": lambda path: path.write_bytes(b"no image"),
    "empty.jpg": lambda path: path.touch(),
    "notes.txt": lambda path: path.write_text("notes"),
}


@quick
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "train/a", "train/b", "Val/a", "test/b", "test"]),
        st.sets(st.sampled_from(sorted(FILES)), min_size=1),
        min_size=1,
        max_size=5,
    )
)
@pytest.mark.filterwarnings("ignore::vision_jax.errors.DataWarning")
def test_what_check_finds_sound_can_be_trained_on_and_nothing_else(folders):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for folder, names in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                FILES[name](root / folder / name)
        try:
            check = check_data(root)
        except InputError:
            with pytest.raises(InputError):
                open_data(root, bad_files="later").choose_splits()
            return
        refused = any("cannot be trained on" in finding.what for finding in check.findings)
        try:
            splits_of = open_data(root, bad_files="later").choose_splits()
        except InputError:
            assert refused
            return
        assert not refused
        read = {}
        for split in (*splits_of, "all"):
            for bad_files in ("error", "skip"):
                try:
                    source = open_source(root, split, bad_files=bad_files)
                    read[split, bad_files] = len(read_all(source)["image"])
                except InputError:
                    read[split, bad_files] = 0
        if check.errors:
            assert read["all", "error"] == 0
        else:
            assert all(read.values())
        assert read["all", "skip"] == check.images - check.errors
