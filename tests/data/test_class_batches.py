"""Batches of M images of each of P classes: as many of each, all in turn, the same again."""

import numpy as np
import pytest

from vision_jax.data.class_batches import ClassBatches, fitting_per_class
from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError

LABELS = np.repeat(np.arange(5), [6, 9, 4, 7, 12])
ORDER = np.random.default_rng(0).permutation(len(LABELS))


@pytest.fixture(scope="module")
def source():
    images = np.zeros((len(LABELS), 2, 2, 1), np.uint8)
    return ArraySource.from_arrays(images, LABELS[ORDER], label_names=list("abcde"), name="five")


def batches(source, steps, *, seed=0, batch_size=8, per_class=4):
    chosen = ClassBatches.of(source, batch_size, per_class, seed)
    return np.stack([chosen.indices(step) for step in range(steps)])


def test_a_batch_holds_as_many_images_of_each_of_its_classes(source):
    labels = source.labels()[batches(source, 50)]
    assert (np.sort(np.bincount(labels[0]))[-2:] == 4).all()
    for row in labels:
        classes, counts = np.unique(row, return_counts=True)
        assert len(classes) == 2
        assert (counts == 4).all()
        assert (row.reshape(2, 4) == row.reshape(2, 4)[:, :1]).all()  # side by side


def test_no_image_is_twice_in_a_batch_and_all_come_in_turn(source):
    found = batches(source, 400)
    assert all(len(set(row)) == len(row) for row in found)
    assert set(found.ravel().tolist()) == set(range(len(LABELS)))
    # Classes come as often as each other, but for the last round.
    counts = np.bincount(source.labels()[found].ravel())
    assert counts.max() - counts.min() < 0.15 * counts.mean()


def test_positions_stay_arrays():
    """Tuples would be turned into arrays anew for each class of each step."""
    images = np.zeros((len(LABELS), 2, 2, 1), np.uint8)
    labelled = ArraySource.from_arrays(images, LABELS, label_names=list("abcde"))
    of = ClassBatches.of(labelled, 8, 4, 0).positions
    assert [rows.tolist() for rows in of] == [
        np.flatnonzero(k == LABELS).tolist() for k in range(5)
    ]
    assert all(isinstance(rows, np.ndarray) for rows in of)


def test_a_step_depends_on_seed_and_number_alone(source):
    np.testing.assert_array_equal(batches(source, 20), batches(source, 20))
    assert (batches(source, 20, seed=1) != batches(source, 20)).any()


def test_processes_share_a_batch(source):
    whole = Loader(source, 8, train=True, per_class=4)
    parts = [Loader(source, 8, train=True, per_class=4, process=(i, 2)) for i in range(2)]
    together = np.concatenate([part.item(3)["index"] for part in parts])
    np.testing.assert_array_equal(together, whole.indices(3))
    np.testing.assert_array_equal(together, batches(source, 4)[3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 24}, "images of 5 classes; a batch_size of 24 with images_per_class 4"),
        ({"batch_size": 10}, "must be at least 2 and divide batch_size, 10"),
        ({"batch_size": 10, "per_class": 5}, "too few images: 4 of c; images_per_class 5 needs"),
    ],
)
def test_what_cannot_be_grouped_is_refused(source, options, message):
    with pytest.raises(InputError, match=message):
        Loader(source, options["batch_size"], train=True, per_class=options.get("per_class", 4))


def test_images_without_labels_cannot_be_grouped():
    source = ArraySource.from_arrays(np.zeros((8, 2, 2, 1), np.uint8))
    with pytest.raises(InputError, match="has no labels; images_per_class 2 needs them"):
        Loader(source, 4, train=True, per_class=2)


@pytest.mark.parametrize(
    ("batch_size", "classes", "per_class"), [(128, 10, 16), (128, 100, 4), (30, 9, 5), (7, 3, 7)]
)
def test_a_number_is_chosen_that_the_classes_suffice_for(batch_size, classes, per_class):
    assert fitting_per_class(batch_size, classes) == per_class
