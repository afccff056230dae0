import dataclasses

import numpy as np
import pytest

from vision_jax.data.sources import Subset
from vision_jax.evaluation.data import EvaluationData
from vision_jax.reports.searches import _spread_over_classes, search_grid
from vision_jax.run.run import load_run


@pytest.fixture(scope="module")
def data(workdir):
    return EvaluationData.of(load_run(workdir))


def test_the_marks_of_a_run_agree_with_its_labels(data):
    axes = search_grid(data).axes
    columns = 9
    marks = 0
    for start in range(0, len(axes), columns):
        true = axes[start].get_title()
        for neighbour in axes[start + 1 : start + columns]:
            mark, label, _ = neighbour.get_title().split()
            assert mark == ("✓" if label == true else "✗")
            marks += 1
    assert marks == 80
    assert {axes[i].get_title() for i in range(0, len(axes), columns)} == set("0123456789")


def test_images_without_a_direction_are_neither_asked_nor_found(data):
    few = dataclasses.replace(
        data, test=Subset.of(data.test, range(3)), train=Subset.of(data.train, range(5))
    )
    vectors = data.run.embed(few.train)
    vectors[[0, 2]] = [[np.nan], [0]]
    few.__dict__["train_vectors"] = vectors
    axes = search_grid(few).axes
    assert [len(axes), sum(len(each.images) for each in axes)] == [3 * 4, 3 * (1 + 3)]
    few.__dict__["train_vectors"] = vectors * np.nan
    assert search_grid(few) is None


@pytest.mark.parametrize("labels", [np.array([0, 0, 0, 1, 1, 2]), None])
def test_queries_are_spread_over_the_classes(labels):
    chosen = _spread_over_classes(labels, 6)
    assert chosen == ([0, 3, 5, 1, 4, 2] if labels is not None else list(range(6)))
