"""K folds held against the definition: every image held out once, classes spread evenly."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from vision_jax.data.catalog import open_data
from vision_jax.data.folds import FoldedData, assigned
from vision_jax.errors import InputError

COUNT = 5


@pytest.fixture(scope="module")
def folds(data_dir):
    data = open_data("digits", data_dir=data_dir)
    return [FoldedData.of(data, (i + 1, COUNT), seed=3) for i in range(COUNT)]


def keys(source):
    return {source.key(i) for i in range(len(source))}


def test_every_image_is_held_out_once_and_never_trained_on_there(folds, data_dir):
    whole = keys(open_data("digits", data_dir=data_dir).source("train"))
    held = [keys(fold.source("test")) for fold in folds]
    assert set.union(*held) == whole
    assert sum(map(len, held)) == len(whole)
    for fold, out in zip(folds, held, strict=True):
        train, validation = keys(fold.source("train")), keys(fold.source("validation"))
        assert train | validation | out == whole
        assert len(train) + len(validation) + len(out) == len(whole)
        assert len(validation) == pytest.approx((len(whole) - len(out)) / 10, abs=1)
        splits, _ = fold.plan()
        assert splits == ("train", "validation", "test")


def test_labels_and_slices_are_those_of_the_images(folds):
    fold = folds[2]
    part = fold.source("test[10:20]+validation[:5]")
    assert part.split == "test[10:20]+validation[:5]"
    rows = part.read(range(len(part)))
    assert [row["label"] for row in rows] == part.labels().tolist()
    wanted = fold.places["test"][10:20] + fold.places["validation"][:5]
    assert [part.key(i) for i in range(15)] == [fold.whole.key(i) for i in wanted]


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_spread_as_scikit_learn_spreads_them(seed):
    labels = np.random.default_rng(seed).integers(0, 4, 203) ** 2 % 5
    parts = assigned(labels, COUNT, seed)
    counts = np.array([np.bincount(labels[parts == i], minlength=5) for i in range(COUNT)])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(1)) <= 1
    theirs = StratifiedKFold(COUNT, shuffle=True, random_state=seed).split(labels, labels)
    others = np.array([np.bincount(labels[test], minlength=5) for _, test in theirs])
    assert np.abs(np.sort(counts, 0) - np.sort(others, 0)).max() <= 1


def test_the_seed_decides_the_division():
    labels = np.repeat(np.arange(3), 20)
    np.testing.assert_array_equal(assigned(labels, 4, 1), assigned(labels, 4, 1))
    assert (assigned(labels, 4, 1) != assigned(labels, 4, 2)).any()


def test_more_parts_than_images_of_a_class_are_refused(data_dir):
    data = open_data("digits", data_dir=data_dir)
    counts = np.bincount(data.source("train").labels())
    smallest = counts.argmin()
    with pytest.raises(InputError, match=f"at most {counts.min()}, .* class, '{smallest}'"):
        FoldedData.of(data, (1, 500))
