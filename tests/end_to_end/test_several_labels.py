"""Several labels an image: a listing of real digits, trained on, measured, indexed and reported."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from sklearn import metrics

from vision_jax.cli import main
from vision_jax.data.loader import read_all
from vision_jax.evaluation.labels import best_thresholds, measure_labels
from vision_jax.gallery import load_index, select_ids
from vision_jax.run.run import load_run
from vision_jax.run.thresholds import read_thresholds

pytestmark = pytest.mark.slow

LABELS = {"high": {5, 6, 7, 8, 9}, "loop": {0, 6, 8, 9}, "odd": {1, 3, 5, 7, 9}}


@pytest.fixture(scope="module")
def listed(tmp_path_factory, digits):
    """A listing of 1000 digits: those of 2 and 4 have no label."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "images").mkdir()
    rows = ["file,labels"]
    for number, (image, digit) in enumerate(zip(*digits, strict=True)):
        if number < 1000:
            Image.fromarray(image[..., 0]).save(folder / "images" / f"{number}.png")
            labels = "|".join(name for name, members in LABELS.items() if digit in members)
            rows.append(f"images/{number}.png,{labels}")
    (folder / "digits.csv").write_text("\n".join(rows))
    return folder / "digits.csv"


@pytest.fixture(scope="module")
def workdir(listed):
    folder = listed.parent / "run"
    options = "--data.channels 1 --epochs 8 --model.stages 16 --model.hidden 64"
    training = f"train cnn --workdir {folder} --data.name {listed} {options} --data.batch-size 64"
    assert main(f"{training} --optimizer.learning-rate 5e-3".split()) == 0
    return folder


def test_several_labels_are_learnt_far_beyond_chance(workdir, digits):
    run = load_run(workdir)
    test = run.source("test")
    assert run.info.multi_label
    assert run.info.label_names == ("high", "loop", "odd")
    there, scores = test.multi_hot(), run.predict(test)
    digit = [digits[1][int(test.files[i].stem)] for i in range(len(test))]
    expected = [[one in members for members in LABELS.values()] for one in digit]
    np.testing.assert_array_equal(there, expected)
    np.testing.assert_array_equal(read_all(test)["labels"], expected)

    measured = measure_labels(run, test, np.full(3, 0.5))
    given = scores >= 0.5
    assert measured["mean_average_precision"] > 0.9 > 0.6 > there.mean(0).max()
    for average, name in (("macro", "mean"), ("micro", "micro")):
        precision = metrics.average_precision_score(there, scores, average=average)
        assert measured[f"{name}_average_precision"] == pytest.approx(precision)
        assert measured[f"{average}_f1"] == pytest.approx(
            metrics.f1_score(there, given, average=average)
        )
    found = [
        [row[name] for name in ("precision", "recall", "f1", "images")]
        for row in measured["labels"].values()
    ]
    np.testing.assert_allclose(
        np.transpose(found), metrics.precision_recall_fscore_support(there, given)
    )
    counted = run.evaluate(test)
    assert counted["accuracy"] == pytest.approx(metrics.accuracy_score(there, given))
    assert counted["loss"] == pytest.approx(
        metrics.log_loss(there.ravel(), scores.ravel()), rel=1e-4
    )
    for name in ("macro_f1", "micro_f1"):
        assert counted[name] == pytest.approx(measured[name])
    assert counted["mean_average_precision"] == pytest.approx(
        measured["mean_average_precision"], abs=2e-3
    )


def test_thresholds_make_f1_highest_on_the_validation_split(workdir):
    run = load_run(workdir)
    held = run.source(run.splits.validation)
    chosen = best_thresholds(run, held)
    scores, there = run.predict(held), held.multi_hot()
    for number in range(3):
        best = max(
            metrics.f1_score(there[:, number], scores[:, number] >= one)
            for one in scores[:, number]
        )
        found = metrics.f1_score(there[:, number], scores[:, number] >= chosen[number])
        assert found == pytest.approx(best)
    assert main(["evaluate", str(workdir), "--tune-thresholds"]) == 0
    kept = json.loads((workdir / "evaluation.json").read_text())["labels"]
    np.testing.assert_allclose([row["threshold"] for row in kept.values()], chosen)
    assert main(["report", str(workdir)]) == 0
    assert "<h2>Labels</h2>" in (workdir / "report.html").read_text()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_predictions_name_the_labels_above_their_thresholds(workdir, listed, suffix):
    run, out = load_run(workdir), listed.parent / f"predictions.{suffix}"
    words = f"predict {workdir} --images {listed} --split test --top 2 --out {out}"
    assert main(words.split()) == 0
    if suffix == "csv":
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = [row["labels"].split("|") if row["labels"] else [] for row in rows]
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        found = [row["labels"] for row in rows]
    else:
        found = parquet.read_table(out)["labels"].to_pylist()
    given = run.predict(run.source("test")) >= read_thresholds(run)
    assert found == [[run.info.label_names[i] for i in np.flatnonzero(row)] for row in given]


def test_labels_are_searched_one_by_one(workdir, listed, digits):
    path = listed.parent / "digits.index"
    assert main(f"index {workdir} --images {listed} --split test --out {path}".split()) == 0
    index = load_index(path)
    test = load_run(workdir).source("test")
    for number, name in enumerate(LABELS):
        assert len(select_ids(index, [f"label={name}"])) == test.multi_hot()[:, number].sum()
    assert {"", "high|loop", "high|loop|odd"} < {row["label"] for row in index.metadata(index.ids)}
    assert main(["inspect", str(listed), "--out", str(listed.parent / "inspect.html")]) == 0
    assert main(["check", str(listed)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate {run} --split all --data.name {single}", "has one label an image: the classes"),
        (
            "train cnn --workdir {folder} --data.name {listed} --class-weights balanced",
            "--class-weights is 'balanced'; it must be none",
        ),
        (
            "train cnn --workdir {folder} --data.name {listed} --best-by top5_accuracy",
            "it must be one of loss, accuracy, macro_f1, micro_f1, mean_average_precision",
        ),
        ("prepare {listed} --name several --data-dir {folder}", "has several labels an image"),
    ],
)
def test_what_takes_one_label_refuses_several(workdir, listed, capsys, words, message):
    single = listed.with_name("single.csv")
    single.write_text("file,label\nimages/0.png,a\nimages/1.png,b\nimages/2.png,b")
    places = {"run": workdir, "listed": listed, "single": single, "folder": listed.parent / "tfds"}
    assert main(words.format(**places).split()) == 2
    assert message in capsys.readouterr().err
