import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from vision_jax import load_run
from vision_jax.cli import main
from vision_jax.commands.evaluate import evaluate
from vision_jax.commands.messages import in_options
from vision_jax.data.catalog import open_data
from vision_jax.data.folds import FoldedData
from vision_jax.errors import InputError


@pytest.fixture
def copy(workdir, tmp_path):
    """A copy of the run's folder, which may be written to."""
    shutil.copytree(workdir, tmp_path / "run")
    return tmp_path / "run"


def read_strictly(path):
    """Read JSON as other languages do, which know neither NaN nor Infinity."""

    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_renamed_option_is_named_as_it_is_written():
    told = in_options("this run has no data of its own; data.name is needed", evaluate)
    assert told == "this run has no data of its own; --data.name is needed"


def test_a_split_to_train_on_is_not_taken_for_an_option(digits, tmp_path):
    save_digits(digits, (1, 7), tmp_path / "other" / "test")
    data = open_data(tmp_path / "other")
    for refuse in (data.plan, lambda: FoldedData.of(data, (1, 2))):
        with pytest.raises(InputError, match="a split to train on is needed") as refused:
            refuse()
        assert in_options(str(refused.value), evaluate) == str(refused.value)


def test_metrics_are_printed_and_written(copy, capsys):
    assert main(["evaluate", str(copy)]) == 0
    printed = capsys.readouterr().out
    written = read_strictly(copy / "evaluation.json")
    assert (written["data"], written["split"], written["images"]) == ("digits", "test", 360)
    counts = np.array(written["confusion"])
    assert written["accuracy"] == pytest.approx(np.trace(counts) / 360)
    assert written["per_class_accuracy"]["3"] == pytest.approx(counts[3, 3] / counts[3].sum())
    scores = written["classes"]["3"]
    assert scores["images"] == counts[3].sum()
    assert scores["precision"] == pytest.approx(counts[3, 3] / counts[:, 3].sum())
    assert re.search(rf"\n  accuracy +{written['accuracy']:.4f}\n", printed)
    assert f"embedding  {written['retrieval']['embedding']['knn_accuracy@10']:.4f}" in printed
    assert "note" not in printed
    assert (copy / "confusion.png").stat().st_size > 0


def test_what_a_small_split_cannot_tell_is_null_and_said(copy, capsys):
    assert main(["evaluate", str(copy), "--split", "test[:1]"]) == 0
    printed = capsys.readouterr().out
    written = read_strictly(copy / "evaluation.json")
    shares = written["per_class_accuracy"].values()
    assert sum(share is None for share in shares) == 9
    assert len(re.findall(r"\n  \d +0  .* - ", printed)) == 9  # classes without images
    assert set(written["retrieval"]["embedding"]) == {"knn_accuracy@10"}
    assert "note: precision@10 and map@r are left out where no class has two" in printed


def save_digits(digits, numbers, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(digits[0][number, ..., 0]).save(folder / f"{number}.png")


def test_another_folder_is_measured_by_the_names_of_its_classes(copy, digits, tmp_path, capsys):
    other = tmp_path / "other"
    by_class = {name: np.flatnonzero(digits[1] == int(name))[:30] for name in "713"}
    chosen = np.concatenate(list(by_class.values()))
    for name, numbers in (by_class | {"ampersand": range(5)}).items():
        save_digits(digits, numbers, other / name)
    assert main(["evaluate", str(copy), "--data.name", str(other), "--split", "all"]) == 0
    printed = capsys.readouterr().out
    written = read_strictly(copy / "evaluation.json")
    run = load_run(copy)
    probabilities, truth = run.predict(digits[0][chosen]), digits[1][chosen]
    assert written["accuracy"] == pytest.approx((probabilities.argmax(1) == truth).mean())
    losses = -np.log(probabilities[range(len(truth)), truth])
    assert written["loss"] == pytest.approx(losses.mean(), rel=1e-3)
    assert written["unknown_classes"] == {"ampersand": 5}
    assert written["missing_classes"] == ["0", "2", "4", "5", "6", "8", "9"]
    cells = dict(zip(written["classes"], np.array(written["confusion"]), strict=True))
    for name, row in cells.items():
        assert row.sum() == (truth == int(name)).sum()
        assert (
            row[list(written["classes"]).index(name)]
            == ((truth == int(name)) & (probabilities.argmax(1) == truth)).sum()
        )
    assert "5 images are left out of recognition, of classes that the run does not know" in printed
    assert "7 of the run's 10 classes have no images" in printed
    assert "would find themselves" in printed
    assert "knn_accuracy@10" not in written["retrieval"]["embedding"]


def test_data_without_a_class_of_the_run_is_refused(copy, digits, tmp_path, capsys):
    for name, numbers in (("a", range(5)), ("b", range(5, 10))):
        save_digits(digits, numbers, tmp_path / "other" / name)
    assert main(["evaluate", str(copy), "--data.name", str(tmp_path / "other")]) == 2
    error = capsys.readouterr().err
    assert "has the classes ('a', 'b'); the run in" in error
    assert "has learnt the classes ('0', '1', '2', '3', '4' and 5 more)" in error
    assert error.count("\n") == 1


def test_bad_input_is_one_line_and_code_2(copy, capsys):
    for words, message in [
        (["evaluate", "{run}", "--classifier", "{run}"], "cannot generate new images"),
        (["generate", "{run}"], "makes no images; a GAN or an autoencoder is needed"),
        (["generate", "{run}", "--seed", "-1"], "--seed is -1; it must be in [0, 2**32)"),
        (["report", "{run}/none"], "holds no run"),
    ]:
        assert main([word.format(run=copy) for word in words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
