import itertools

import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.evaluation.class_splits import class_splits, rows_of


@pytest.mark.parametrize(("classes", "unseen", "count"), [(10, 3, 10), (4, 2, 6), (7, 2, 21)])
def test_splits_are_disjoint_different_and_even(classes, unseen, count):
    splits = class_splits(classes, unseen, count, seed=3)
    assert len({split.unseen for split in splits}) == count
    for seen, left in splits:
        assert sorted([*seen, *left]) == list(range(classes))
        assert len(left) == unseen
    times = np.bincount([label for split in splits for label in split.unseen], minlength=classes)
    assert times.max() - times.min() <= 1
    assert splits == class_splits(classes, unseen, count, seed=3)
    assert splits[:2] == class_splits(classes, unseen, 2, seed=3)


def test_every_choice_is_as_likely():
    first = [class_splits(5, 2, 1, seed=seed)[0].unseen for seed in range(2000)]
    shares = [first.count(pair) / 2000 for pair in itertools.combinations(range(5), 2)]
    assert shares == pytest.approx([0.1] * 10, abs=0.03)


def test_rows_are_numbered_in_the_order_of_the_classes():
    labels = np.array([4, 0, 2, 4, 1, 2, 9])
    rows, places = rows_of(labels, (2, 4))
    assert rows.tolist() == [0, 2, 3, 5]
    assert places.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_splits(10, 1, 2), r"unseen is 1; it must be in \[2, 8\] with 10 classes"),
        (lambda: class_splits(10, 9, 2), "unseen is 9"),
        (lambda: class_splits(4, 2, 7), r"count is 7; it must be in \[1, 6\]"),
        (lambda: rows_of(np.array([0, 1]), (0, 2)), r"classes is \[0, 2\]; .* 2 does not"),
        (lambda: rows_of(np.array([0, 1]), (1, 1)), "each once, which 1 does not"),
        (lambda: rows_of(np.array([0, 1]), (-1, 1)), "which -1 does not"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
