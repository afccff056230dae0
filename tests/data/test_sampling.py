import pickle

import numpy as np
import pytest

from vision_jax.data.loader import Loader
from vision_jax.data.sampling import Balanced
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError

LABELS = np.repeat([0, 1, 3], [70, 11, 2]).astype(np.int32)  # class 2 has no images


@pytest.fixture(scope="module")
def source():
    order = np.random.default_rng(0).permutation(len(LABELS))
    images = np.arange(len(LABELS) * 4, dtype=np.int64).reshape(-1, 2, 2, 1) % 256
    return ArraySource.from_arrays(images, LABELS[order], label_names="abcd")


def test_an_epoch_has_equally_many_images_of_each_class(source):
    labels = source.labels()
    orders = [Balanced.of(labels).order(seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert len(order) == len(source)
        counts = np.bincount(labels[order], minlength=4)
        assert sorted(counts) == [0, 27, 28, 28]
        for kind in (0, 1, 3):
            taken = np.bincount(order, minlength=len(source))[labels == kind]
            assert taken.max() - taken.min() <= 1
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    # The common images that one epoch leaves out are in others.
    assert len(np.unique(np.concatenate(orders))) > len(np.unique(orders[0]))


def test_every_way_of_reading_gives_the_same_images(source):
    def images_of(steps, **options):
        loader = Loader(source, 8, train=True, seed=3, sampling="balanced", **options)
        resident = loader.resident()
        for item in loader.items(*steps):
            whole = resident["image"][item["index"]] if resident else item["image"]
            yield whole, item["mask"]

    held = list(images_of((0, 25)))  # beyond two epochs of 10 steps
    for options in ({"on_device_bytes": 0}, {"process": (1, 2)}):
        for (image, mask), (other, _) in zip(held, images_of((0, 25), **options), strict=True):
            np.testing.assert_array_equal(image[-len(other) :], other)
            assert mask.all()
    reader = pickle.loads(pickle.dumps(Loader(source, 8, train=True, seed=3, sampling="balanced")))
    for step, (image, _) in enumerate(held):
        np.testing.assert_array_equal(source.images[reader.indices(step)], image)
    resumed = list(images_of((17, 25)))
    np.testing.assert_array_equal([i for i, _ in resumed], [i for i, _ in held[17:]])


def test_evaluation_takes_every_image_once(source):
    loader = Loader(source, 8, train=False, sampling="balanced")
    taken = np.concatenate([loader.indices(step) for step in range(loader.steps_per_epoch)])
    np.testing.assert_array_equal(taken, np.arange(len(source)))


def test_what_cannot_be_balanced_is_refused(source):
    bare = ArraySource.from_arrays(source.images, name="bare")
    with pytest.raises(InputError, match="sampling is 'balanced'; bare has no labels"):
        Loader(bare, 8, train=True, sampling="balanced")
    assert Loader(bare, 8, train=False, sampling="balanced").steps_per_epoch == 11
