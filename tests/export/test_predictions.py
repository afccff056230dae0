"""Predictions of many images as tables, held against `run.predict` and other readers."""

import csv
import json

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from vision_jax import load_run
from vision_jax.cli import main
from vision_jax.data.sources import ArraySource, Source
from vision_jax.errors import InputError
from vision_jax.export.predictions import Prediction, predictions, write_predictions


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


@pytest.fixture
def folder(digits, tmp_path):
    """Thirty digits as PNG files, some in subfolders of odd names."""
    images = digits[0][:30]
    for i, image in enumerate(images):
        place = tmp_path / "images" / ("", "a, b", "drei/ä")[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(place / f"{i:02}.png")
    return tmp_path / "images"


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number_of(file):
    return int(file.rpartition("/")[2].removesuffix(".png"))


def test_files_folders_and_data_sets_are_predicted_as_the_run_does(workdir, run, folder, digits):
    out = folder.parent / "found.csv"
    alone = folder / "00.png"
    words = ["predict", str(workdir), "--images", str(alone), str(folder), "digits"]
    assert main([*words, "--out", str(out)]) == 0
    rows = read_csv(out)
    assert len(rows) == 1 + 30 + 1797
    assert rows[0]["file"] == str(alone)
    assert {row["file"] for row in rows[1:31]} == {str(path) for path in folder.rglob("*.png")}
    assert rows[31]["file"] == "digits/all/0"

    read = [number_of(row["file"]) for row in rows[:31]]
    wanted = np.concatenate([run.predict(digits[0][read]), run.predict(run._data.source("all"))])
    names = np.array(run.info.label_names)
    best = np.argsort(-wanted, 1, kind="stable")[:, :5]
    for i in range(5):
        assert [row[f"top{i + 1}"] for row in rows] == names[best[:, i]].tolist()
        given = np.array([row[f"top{i + 1}_probability"] for row in rows], np.float32)
        np.testing.assert_allclose(given, wanted[range(len(rows)), best[:, i]], rtol=1e-4)
    assert all(row["class"] == row["top1"] for row in rows)
    assert all(row["probability"] == row["top1_probability"] for row in rows)


ODD = [
    Prediction("a, b.png", ("cat, domestic", 'a "dog"'), (0.75, 0.25)),
    Prediction("ünï\u2028.png", ("two\nlines", "=SUM(A1)"), (0.1, 1e-30)),
]


def test_every_format_gives_back_what_was_written(tmp_path):
    records = [
        {
            "file": row.file,
            "class": row.classes[0],
            "probability": row.probabilities[0],
            "top": [
                {"class": name, "probability": value}
                for name, value in zip(row.classes, row.probabilities, strict=True)
            ],
        }
        for row in ODD
    ]
    for suffix in (".csv", ".json", ".jsonl", ".parquet"):
        assert write_predictions(ODD, tmp_path / f"out{suffix}") == 2
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == records
    lines = (tmp_path / "out.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line) for line in lines if line] == records
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for record in records:  # which are float32 there
        for entry in (record, *record["top"]):
            entry["probability"] = float(np.float32(entry["probability"]))
    assert found == records
    for row, wanted in zip(read_csv(tmp_path / "out.csv"), ODD, strict=True):
        assert (row["file"], row["top1"], row["top2"]) == (wanted.file, *wanted.classes)
        assert float(row["top2_probability"]) == wanted.probabilities[1]


def test_probabilities_are_the_shortest_decimals_of_their_float32(run, digits):
    source = ArraySource.from_arrays(digits[0][:20])
    rows = list(predictions(run, source, top=100))
    assert {len(row.classes) for row in rows} == {10}
    given = np.array([row.probabilities for row in rows], np.float32)
    np.testing.assert_array_equal(given, -np.sort(-run.predict(source), 1))


def test_a_table_that_fails_or_is_stopped_leaves_the_older_one(workdir, folder, capsys):
    def stopped():
        yield ODD[0]
        raise KeyboardInterrupt

    out = folder.parent / "found.csv"
    out.write_text("older")
    with pytest.raises(KeyboardInterrupt):
        write_predictions(stopped(), out)
    (folder / "drei" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    words = ["predict", str(workdir), "--images", str(folder), "--out", str(out), "--top", "1"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "broken.png" in error
    assert error.count("\n") == 1
    assert out.read_text() == "older"
    assert {path.name for path in out.parent.iterdir()} == {"images", "found.csv"}

    outside = folder.parent / "outside.png"
    Image.new("L", (8, 8)).save(outside)
    (folder / "link.png").symlink_to(outside)
    assert main([*words, "--bad-files", "skip"]) == 0
    error = capsys.readouterr().err
    assert "skipped 2 of 32 images" in error
    assert "broken.png" in error
    assert "link.png is a link to" in error
    rows = read_csv(out)
    assert sorted(number_of(row["file"]) for row in rows) == list(range(30))
    assert list(rows[0]) == ["file", "class", "probability"]


class Endless(Source):
    """More images than are ever read."""

    def __len__(self):
        return 10**6

    def read(self, indices):
        self.asked.extend(indices)
        return [{"image": np.full(self.image_shape, i % 256, np.uint8)} for i in indices]

    def labels(self):
        return None

    def digests(self):
        raise NotImplementedError


def test_no_more_is_read_than_what_is_predicted_next(run):
    source = Endless("endless", "all", (8, 8, 1), None)
    object.__setattr__(source, "asked", [])
    rows = predictions(run, source)
    assert [next(rows).file for _ in range(3)] == [f"endless/all/{i}" for i in range(3)]
    rows.close()
    assert len(source.asked) < 100_000


def test_bad_input_is_one_line_before_work_begins(workdir, folder, capsys):
    file = str(folder / "00.png")
    for words, message in [
        (["--images", file, "--out", "a.txt"], "must end in .csv, .json, .jsonl, .parquet"),
        (["--images", file, "--out", "none/a.csv"], "the folder none must exist"),
        (["--images", file, "--out", "a.csv", "--top", "0"], "--top is 0; it must be at least 1"),
        (["--images", "no.png", "--out", "a.csv"], "--images is 'no.png', which does not exist"),
        (["--images", "cifar", "--out", "a.csv"], "'cifar' is not a data set"),
        (["--images", file, "--split", "test", "--out", "a.csv"], "None is needed with a file"),
        (["--images", str(folder), "--split", "no", "--out", "a.csv"], "has nothing at 'no'"),
    ]:
        assert main(["predict", str(workdir), *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_what_holds_no_readable_image_writes_nothing(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="holds 0 readable images among 1"):
        write_predictions(
            predictions(run, tmp_path / "a.png", bad_files="skip"), tmp_path / "out.csv"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
