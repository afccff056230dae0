import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from vision_jax.data.catalog import open_data, open_source
from vision_jax.data.check import check_data
from vision_jax.data.loader import Loader, read_all
from vision_jax.data.sources import Subset
from vision_jax.errors import DataWarning, InputError
from vision_jax.models import CNN
from vision_jax.run.train import train
from vision_jax.tasks.classification import Classification
from vision_jax.training.loop import check_needs


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


def listing(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def photos(tmp_path):
    """Class folders of cats and dogs below `photos`."""
    for number in range(20):
        write(tmp_path / "photos" / "cat" / f"{number}.png", number)
        write(tmp_path / "photos" / "dog" / f"{number}.png", 100 + number)
    return tmp_path / "photos"


@pytest.fixture
def pair(tmp_path):
    """Two images, a.png and b.png."""
    write(tmp_path / "a.png", 1)
    write(tmp_path / "b.png", 2)
    return tmp_path


def assert_equal(listed, folder, split):
    a = open_source(listed, split, channels=1)
    b = open_source(folder, split, channels=1)
    assert [a.key(i) for i in range(len(a))] == [b.key(i) for i in range(len(b))]
    assert a.label_names == b.label_names
    assert a.splits() == b.splits()
    assert a.digests() == b.digests()
    rows, others = read_all(a), read_all(b)
    np.testing.assert_array_equal(rows["image"], others["image"])
    np.testing.assert_array_equal(rows["label"], others["label"])


@pytest.mark.filterwarnings("ignore:.*is not an image by its name")  # the listing in the folder
@pytest.mark.parametrize("where", ["within", "beside", "absolute"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_listing_equals_a_folder_sorted_by_class(photos, where, kind):
    folder = photos if where == "within" else photos.parent
    rows = []
    for path in sorted(photos.glob("*/*.png"), reverse=True):
        file = str(path if where == "absolute" else path.relative_to(folder))
        rows.append((file, path.parent.name))
    if kind == "jsonl":
        text = "\n".join(json.dumps({"file": file, "label": label}) for file, label in rows)
    else:
        mark = {"csv": ",", "tsv": "\t"}[kind]
        text = "".join(f"{mark.join(row)}\r\n" for row in [("file", "label"), *rows])
    path = listing(folder / f"photos.{kind}", "\ufeff" + text)
    assert open_data(path).plan() == open_data(photos).plan()
    for split in ("train", "test", "all", "train[:50%]"):
        assert_equal(path, photos, split)
    assert len(open_source(path, "files")) == 40
    assert open_source(path, "files").label_names is None


def test_a_column_of_splits_equals_split_folders(tmp_path):
    rows = ["file,split,label"]
    for split in ("train", "val"):
        for label in "ab":
            for number in range(3):
                file = f"set/{split}/{label}/{number}.png"
                write(tmp_path / file, number)
                rows.append(f"{file},{split.title()},{label}")
    path = listing(tmp_path / "set.csv", "\n".join(rows))
    assert open_data(path).plan() == open_data(tmp_path / "set").plan()
    for split in ("train", "validation", "train[:50%]+validation"):
        assert_equal(path, tmp_path / "set", split)


def test_quoted_values_and_integer_labels_are_read(pair):
    for name in ("a, b\n.png", "c.png"):
        write(pair / name, 3)
    text = 'label,file,place\n7," a, b\n.png","Rome, Italy"\n\n3, c.png ,\n'
    source = open_source(listing(pair / "x.csv", text), "all")
    assert source.label_names == ("3", "7")
    by_name = dict(zip(source.files, source.columns, strict=True))
    assert by_name == {pair / "a, b\n.png": {"place": "Rome, Italy"}, pair / "c.png": {}}
    text = "file,label,year,weight,code\na.png,x,2019,-0.5,007\nb.png,y,,1,1"
    source = open_source(listing(pair / "x.csv", text), "all")
    by_name = dict(zip(source.files, source.columns, strict=True))
    assert by_name[pair / "a.png"] == {"year": 2019, "weight": -0.5, "code": "007"}
    assert by_name[pair / "b.png"] == {"weight": 1.0, "code": "1"}
    text = '{"file": "a.png", "label": 7, "year": 2019}\n\n{"file": "b.png", "label": "x"}\n'
    source = open_source(listing(pair / "x.jsonl", text), "all")
    assert source.label_names == ("7", "x")
    by_name = dict(zip(source.files, source.columns, strict=True))
    assert by_name == {pair / "a.png": {"year": 2019}, pair / "b.png": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.csv lists 0 images"),
        ("file,label\n", "x.csv lists 0 images"),
        ("file,name\na.png,cat", "line 1: the columns are file, name; file and either label or"),
        ("file,label,labels\na.png,a,a", "line 1: the columns are file, label, labels; file and"),
        ("label\ncat", "line 1: the columns are label; file and"),
        ("file,label,\na.png,cat,", "line 1: column 3 has no name"),
        ("file,label,label\na.png,cat,", "line 1: two columns are called 'label'"),
        ("file,label,key\na.png,cat,7", "line 1: a column is called 'key', which an index keeps"),
        ("file,label\na.png,cat\nb.png", "line 3: has 1 values; 2 are needed, file, label"),
        ("file,label\na.png,cat,x", "line 2: has 3 values; 2 are needed"),
        ("file,label\na.png,cat\n\nb.png,", "line 4: label is empty; text is needed"),
        ("file,label\n,cat", "line 2: file is empty"),
        ('file,label\na.png,"cat\nx"\nb.png,', "line 4: label is empty"),
        ('file,label\n"a.png,cat\n', "line 2: is not valid CSV: unexpected end of data"),
        ("file,label\na.png,cat\n./a.png,cat", "line 3: a.png is listed already, in line 2"),
        ("file,label\na.png,cat\nc.png,cat", "line 3: c.png does not exist; an image file"),
        ("file,label\nx.csv,cat", r"line 2: x.csv is not an image by its name \(.png, "),
        ("file,label\n../a.png,cat", r"line 2: .*/a\.png does not exist"),
        ("file,label,split\na.png,cat,trian", "line 2: split is 'trian'; one of train, training"),
        ("file,label,split\na.png,cat,", "line 2: split is empty"),
    ],
)
def test_a_bad_csv_is_refused_by_its_line(pair, text, message):
    listing(pair / "x.csv", text)
    with pytest.raises(InputError, match=message) as caught:
        open_source(pair / "x.csv", "all")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file": "a.png", "label": "cat"', "line 1: is not valid JSON: Expecting"),
        ("\n[1]", 'line 2: is a list; an object such as {"file": '),
        ('{"file": "a.png"}', "line 1: the columns are file; file and either label or labels"),
        ('{"file": "a.png", "label": "a"}\n{"file": "b.png", "labels": []}', "line 2: has labels"),
        ('{"file": "a.png", "label": null}', "line 1: label is null; text is needed"),
        ('{"file": "a.png", "label": true}', "line 1: label is a boolean; text is needed"),
        ('{"file": "a.png", "label": "a", "label": "b"}', "line 1: .* a name is there twice"),
        ('{"file": "a.png", "label": "a", "size": NaN}', "line 1: .* NaN is no JSON number"),
        ('{"file": "a.png", "label": "a", "size": -1e400}', "line 1: .* -1e400 is no JSON number"),
        ('{"file": "a.png", "label": "a", "box": [1]}', "line 1: box is a list; text or a number"),
        ('{"file": "a.png", "label": "\\ud800"}', "line 1: label is .*, half of a character"),
        (
            '{"file": "a.png", "label": "a"}\n{"file": "b.png", "label": "a", "split": "test"}',
            "line 2: has split, unlike line 1",
        ),
    ],
)
def test_bad_json_lines_are_refused_by_their_line(pair, text, message):
    with pytest.raises(InputError, match=message):
        open_source(listing(pair / "x.jsonl", text), "all")


def test_a_listing_in_another_encoding_or_place_is_refused(pair):
    (pair / "x.csv").write_bytes("file,label\na.png,café".encode("latin-1"))
    with pytest.raises(InputError, match=r"x\.csv, line 2: byte 0xe9 is not UTF-8; save"):
        open_source(pair / "x.csv", "all")
    with pytest.raises(InputError, match=r"y\.csv does not exist; a listing of images is needed"):
        open_source(pair / "y.csv", "all")


def test_a_label_that_training_never_shows_is_refused(pair):
    path = listing(pair / "x.csv", "file,label,split\na.png,cat,train\nb.png,catt,val")
    with pytest.warns(DataWarning, match="train/catt is a class with 0 images here"):
        assert len(open_source(path, "all")) == 2
    with pytest.raises(InputError, match=r"line 3: the label 'catt' is in val and in no image of"):
        open_data(path).choose_splits()
    assert "'catt'" in check_data(path).findings[0].what


def test_files_outside_of_the_listings_folder_take_links(pair, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    write(outside / "c.png", 3)
    (pair / "link.png").symlink_to(outside / "c.png")
    for file in (outside / "c.png", "link.png"):
        path = listing(pair / "x.csv", f"file,label\na.png,cat\n{file},dog")
        with pytest.raises(
            InputError, match=r"line 3: .*, outside of the listing's folder, and is"
        ):
            open_source(path, "all")
        source = open_source(path, "all", links=True, channels=1)
        assert sorted(int(row["image"][0, 0, 0]) for row in source.read([0, 1])) == [1, 3]


def test_missing_files_can_be_skipped(pair):
    path = listing(pair / "x.csv", "file,label\na.png,cat\nb.png,dog\nc.png,dog")
    with pytest.warns(DataWarning, match=r"skipped 1 of 3 files .*: c\.png does not exist"):
        source = open_source(path, "all", bad_files="skip")
    assert (len(source), source.skipped, source.label_names) == (2, 1, ("cat", "dog"))
    found = check_data(path)
    assert [re.split(";", row.what)[0] for row in found.findings if row.error] == ["does not exist"]


@pytest.mark.slow
def test_training_on_a_listing_equals_training_on_a_sorted_folder(tmp_path, digits, config):
    rows = ["file,label"]
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        if number < 500:
            path = tmp_path / "photos" / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
            rows.append(f"{path.relative_to(tmp_path)},{label}")
    listing(tmp_path / "photos.csv", "\n".join(rows))
    histories = []
    for name in ("photos", "photos.csv"):
        data = dataclasses.replace(config.data, name=str(tmp_path / name), channels=1)
        run = dataclasses.replace(config, data=data, epochs=2)
        histories.append(train(run, tmp_path / f"run-{name}", progress=False).history)
    assert histories[0] == histories[1]


def labels_by_file(source):
    names = source.multi_label_names
    rows = zip(source.files, source.multi_hot(), strict=True)
    return {file.name: [names[i] for i in np.flatnonzero(row)] for file, row in rows}


def test_the_division_depends_neither_on_how_a_path_is_written_nor_on_where_it_is(
    tmp_path, monkeypatch
):
    names = [f"{number:02}.png" for number in range(20)]
    for number, name in enumerate(names):
        for tree in ("one", "two"):
            write(tmp_path / tree / "photos" / name, number)
    text = "file,label\n" + "".join(f"{name},cat\n" for name in names)
    inside = listing(tmp_path / "one" / "photos" / "x.csv", text)
    monkeypatch.chdir(tmp_path / "two")
    expected = held_out(inside)
    assert len(expected) == 4
    assert held_out("../one/photos/x.csv") == expected
    # Beside the photographs, alone or with others that lie in the listing's folder.
    for others in ((), ("z.png",)):
        found = []
        for tree in ("one", "two"):
            for name in others:
                write(tmp_path / tree / "lists" / name, 99)
            lines = [*(f"../photos/{name}" for name in names), *others]
            text = "file,label\n" + "".join(f"{line},cat\n" for line in lines)
            (tmp_path / tree / "lists").mkdir(exist_ok=True)
            found.append(held_out(listing(tmp_path / tree / "lists" / "x.csv", text)))
        assert found[0] == found[1]


def held_out(path):
    return sorted(file.name for file in open_source(path, "test", links=True).files)


def test_several_labels_are_read_from_both_formats(pair):
    write(pair / "c.png", 3)
    expected = {"a.png": ["cat", "dog"], "b.png": [], "c.png": ["cat"]}
    text = "file,labels\na.png,dog|cat | dog\nb.png,\nc.png,cat"
    lines = [json.dumps({"file": file, "labels": labels}) for file, labels in expected.items()]
    for path in (listing(pair / "x.csv", text), listing(pair / "x.jsonl", "\n".join(lines))):
        source = open_source(path, "all", channels=1)
        assert (source.multi_label_names, source.label_names) == (("cat", "dog"), None)
        assert source.labels() is None
        assert labels_by_file(source) == expected
        rows = read_all(Subset.of(source, [2, 0]))
        np.testing.assert_array_equal(rows["labels"], source.multi_hot()[[2, 0]])
        for bytes_held in (0, 2**20):
            loader = Loader(source, 2, train=False, on_device_bytes=bytes_held)
            resident = {name: jnp.asarray(values) for name, values in loader.resident().items()}
            items = [jax.tree.map(jnp.asarray, item) for item in loader.items(0, 2)]
            batches = [loader.batch(resident, item) for item in items]
            found = np.concatenate([batch["label"] for batch in batches])[:3]
            np.testing.assert_array_equal(found, source.multi_hot())
            shapes = jax.tree.map(lambda row: (row.shape, row.dtype), batches[0])
            assert shapes == jax.tree.map(lambda row: (row.shape, row.dtype), loader.blank(2))
        empty = Loader(source, 4, train=False, on_device_bytes=0, process=(1, 4)).item(0)
        past = Loader(source, 2, train=False, on_device_bytes=0, process=(1, 2)).item(1)
        assert (empty["label"].shape, empty["mask"].tolist()) == ((1, 2), [True])
        assert (past["label"].tolist(), past["mask"].tolist()) == ([[False, False]], [False])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,labels\na.png,cat|\n", "line 2: a label is empty; text is needed"),
        ("file,labels\na.png,\n", "x.csv gives 0 labels to its images; 1 or more are needed"),
    ],
)
def test_bad_labels_are_refused_by_their_line(pair, text, message):
    with pytest.raises(InputError, match=message):
        open_source(listing(pair / "x.csv", text), "all")


def test_a_label_of_several_that_training_never_shows_is_refused_or_named(pair):
    text = "file,labels,split\na.png,cat,train\nb.png,cat|dog,test"
    with pytest.raises(InputError, match="line 3: the label 'dog' is in test and in no image of"):
        open_data(listing(pair / "x.csv", text)).plan("train", "train", "test")
    text = "file,labels\na.png,cat\nb.png,cat|dog"
    data = open_data(listing(pair / "x.csv", text))
    splits = ["train[:1]", "train[1:]"]
    seen, other = splits if data.select(splits[0])[0][1] == "a.png" else reversed(splits)
    what = f"is a label of 0 images in {seen}, and so is not trained on"
    assert ("dog", what, False) in data.plan(seen, other, other)[1]


def test_a_task_of_one_label_refuses_several(pair):
    path = listing(pair / "x.csv", "file,labels\na.png,cat\nb.png,cat|dog")
    task = Classification(CNN(num_classes=2, stages=(4,), hidden=8), optax.sgd(0.1))
    with pytest.raises(
        InputError, match=r"x\.csv has several labels an image; Classification needs"
    ):
        check_needs(task, open_source(path, "all"))
