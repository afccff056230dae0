"""How right scores are: measured by `evaluate`, printed by `search` for what was measured alone."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from vision_jax.cli import main
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.scores import FILE, measure_scores, read_scores, write_scores
from vision_jax.gallery import load_index
from vision_jax.gallery.origin import origin_of
from vision_jax.run.run import load_run


@pytest.fixture(scope="module")
def measured(workdir, tmp_path_factory):
    """A copy of the run with its scores measured, the scores, and an index of its data."""
    folder = tmp_path_factory.mktemp("scores") / "run"
    shutil.copytree(workdir, folder)
    scores = measure_scores(EvaluationData.of(load_run(folder)))
    write_scores(scores, folder)
    index = folder.parent / "digits.index"
    words = ["index", folder, "--images", "digits", "--split", "train[:100]", "--out", index]
    assert main([*map(str, words)]) == 0
    return folder, scores, index


def test_the_figures_are_those_of_all_pairs(measured):
    folder, scores, _ = measured
    run = load_run(folder)
    source = run.source()
    vectors, labels = run.embed(source).astype(np.float64), source.labels()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    off = ~np.eye(len(unit), dtype=bool)
    hits, same = (unit @ unit.T >= 0.9)[off], (labels[:, None] == labels)[off]
    at = int(np.searchsorted(scores.curve.thresholds, np.float32(0.9)))
    assert scores.curve.precision[at] == pytest.approx(same[hits].mean(), abs=1e-4)
    assert scores.curve.recall[at] == pytest.approx(hits[same].mean(), abs=1e-4)
    expected = (
        f"on the test set, {len(unit)} images of digits ({source.split}), {same[hits].mean():.2f} "
        f"of the hits of 0.900 or more had the query's label; {hits[same].mean():.2f} of the "
        "images with that label were found"
    )
    assert scores.sentence(0.9) == scores.sentence(0.9004) == expected


def test_they_are_printed_for_what_was_measured_alone(measured, capsys, tmp_path):
    folder, scores, index = measured

    def printed(*words):
        capsys.readouterr()
        keys = ["--keys", "digits/train[:100]/3", "--min-score", "0.9"]
        assert main(["search", str(index), *keys, *words]) == 0
        return capsys.readouterr().out

    sentence = scores.sentence(0.9)
    assert printed().splitlines()[-1] == sentence
    assert sentence in printed("--method", "sharded")
    for words in (["--where", "label=3"], ["--fold", "0.99"], ["--mmr", "0.5"]):
        assert "on the test set" not in printed(*words)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert sentence in printed("--workdir", str(moved))
    content = json.loads((moved / FILE).read_text())
    for change in ({"encoder": "0" * 64}, {"data": "photos"}, {"recall": []}, {"images": None}):
        (moved / FILE).write_text(json.dumps(content | change))
        assert "on the test set" not in printed("--workdir", str(moved))
    (moved / FILE).write_text("{")
    assert "on the test set" not in printed("--workdir", str(moved))


def test_what_is_written_is_read_again(measured):
    folder, scores, index = measured
    origin = origin_of(load_index(index))
    again = read_scores(folder, origin)
    assert again.sentence(0.8) == scores.sentence(0.8)
    np.testing.assert_allclose(again.curve.precision, scores.curve.precision, atol=1e-4)
    assert read_scores(folder, dataclasses.replace(origin, encoder=None)) is None
    assert read_scores(folder, dataclasses.replace(origin, views=2)) is None
    write_scores(scores._replace(views=2), folder)
    assert read_scores(folder, origin) is None
    assert read_scores(folder, dataclasses.replace(origin, views=2)).views == 2
    write_scores(scores, folder)


def test_nothing_scores_so_much(measured):
    _, scores, _ = measured
    curve = scores.curve._replace(precision=np.full_like(scores.curve.precision, np.nan))
    assert "no two images had a cosine of 1.000 or more" in scores._replace(curve=curve).sentence(
        1.0
    )
