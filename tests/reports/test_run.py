import dataclasses
import shutil
from collections import Counter

import numpy as np
import pytest

from vision_jax.data.records import TfdsSource
from vision_jax.data.sources import ArraySource
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.measure import measure
from vision_jax.reports.run import write_report
from vision_jax.run.run import load_run


@pytest.fixture
def run(workdir, tmp_path):
    """The run, in a folder that may be written to."""
    shutil.copy(workdir / "metrics.jsonl", tmp_path)
    return dataclasses.replace(load_run(workdir), workdir=tmp_path)


def test_a_report_opens_decodes_and_embeds_each_image_once(run, monkeypatch):
    opened, decoded, embedded = Counter(), Counter(), []
    open_split, read, embed = type(run).source, TfdsSource.read, type(run).embed

    def count_opened(self, split=None):
        opened[split] += 1
        return open_split(self, split)

    def count_decoded(self, indices):
        decoded.update((self.split, index) for index in indices)
        return read(self, indices)

    def count_embedded(self, images, **options):
        embedded.append(len(images))
        return embed(self, images, **options)

    monkeypatch.setattr(type(run), "source", count_opened)
    monkeypatch.setattr(TfdsSource, "read", count_decoded)
    monkeypatch.setattr(type(run), "embed", count_embedded)
    data = EvaluationData.of(run)
    page = write_report(data).read_text()
    assert set(opened.values()) == {1}
    assert set(decoded.values()) == {1}
    assert len(decoded) == len(data.test) + len(data.train)
    assert sum(embedded) == len(data.test) + len(data.train) + 10  # those of the picture
    for head in (
        "Metrics",
        "Learning curves",
        "Confusion matrix",
        "Classes",
        "Calibration",
        "Search",
        "Nearest images",
    ):
        assert f"<h2>{head}</h2>" in page
    assert f"trained on the {len(data.train)} images of train[:90%]" in page


def test_a_report_shows_what_was_measured_and_says_what_was_not(run, monkeypatch):
    data = EvaluationData.of(run, "test[:1]")
    metrics = measure(data) | {"accuracy": 0.12345}
    monkeypatch.setattr("vision_jax.reports.run.measure", None)
    page = write_report(data, metrics=metrics).read_text()
    assert "<td>accuracy</td><td>0.1235</td>" in page
    assert page.count("<td>0</td><td>") == 9  # classes without images
    assert "Note: precision@10 and map@r are left out where no class has two test images" in page
    assert "<th>knn_accuracy@10</th></tr>" in page


def test_predictions_of_other_data_are_shown_under_the_run_s_classes(run, monkeypatch):
    """The other data has the classes in another order, and one that the run does not know."""
    images, labels = run.source("test[:20]").read(range(20)), run.source("test[:20]").labels()
    names, theirs = ("x", *map(str, reversed(range(10)))), 10 - labels
    theirs[0] = 0
    other = ArraySource.from_arrays([e["image"] for e in images], theirs, label_names=names)
    shown = []
    for name in ("_recognition", "_search"):  # parts that say nothing of these pictures
        monkeypatch.setattr(f"vision_jax.reports.run.{name}", lambda *_: [])
    monkeypatch.setattr(
        "vision_jax.reports.run.predictions_html", lambda _, source: shown.append(source) or ""
    )
    data = EvaluationData(run, other, run.source("train[:20]"))
    write_report(data, metrics={"confusion": None})
    assert shown[0].labels().tolist() == labels[1:].tolist()
    assert shown[0].label_names == run.info.label_names


def test_embeddings_without_a_direction_leave_a_report_without_neighbours(run, monkeypatch):
    lost = np.full((400, 8), np.nan, np.float32)
    monkeypatch.setattr(type(run), "embed", lambda self, images, **options: lost[: len(images)])
    data = EvaluationData.of(run, "test[:20]")
    data.__dict__["train_vectors"] = lost
    page = write_report(data).read_text()
    assert "search by embedding leaves out 20 of 20 test images, such as digits/test[:20]/0" in page
    assert "<td>pixels</td>" in page
    assert "<td>embedding</td>" not in page
    assert "<h2>Nearest images</h2>" not in page
