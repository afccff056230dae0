import dataclasses

import numpy as np
import pytest

from vision_jax.data.sources import Subset
from vision_jax.evaluation.data import EvaluationData
from vision_jax.reports.searches import search_rows, spread_over_classes
from vision_jax.run.run import load_run


@pytest.fixture(scope="module")
def data(workdir):
    return EvaluationData.of(load_run(workdir))


def test_the_marks_of_a_run_agree_with_its_labels(data):
    rows = search_rows(data)
    assert [len(row) for row in rows] == [9] * 10
    for asked, *found in rows:
        for shown in found:
            label, score, name = shown.text.split("\n")
            assert shown.right == (label == asked.text.split("\n")[0])
            assert name == shown.title
            assert shown.caption == ("✓ " if shown.right else "✗ ") + shown.text
            assert 0 < float(score) <= 1
    assert {row[0].text[0] for row in rows} == set("0123456789")


def test_images_without_a_direction_are_neither_asked_nor_found(data):
    few = dataclasses.replace(
        data, test=Subset.of(data.test, range(3)), train=Subset.of(data.train, range(5))
    )
    vectors = data.run.embed(few.train)
    vectors[[0, 2]] = [[np.nan], [0]]
    few.__dict__["train_vectors"] = vectors
    rows = search_rows(few)
    assert [len(row) for row in rows] == [1 + 3] * 3
    assert {shown.title for row in rows for shown in row[1:]} == {
        few.train.key(i) for i in (1, 3, 4)
    }
    few.__dict__["train_vectors"] = vectors * np.nan
    assert search_rows(few) == []


@pytest.mark.parametrize("labels", [np.array([0, 0, 0, 1, 1, 2]), None])
def test_queries_are_spread_over_the_classes(labels):
    chosen = spread_over_classes(labels, 6, 10)
    assert chosen == ([0, 3, 5, 1, 4, 2] if labels is not None else list(range(6)))
