import numpy as np
import pytest

from vision_jax.data.catalog import open_source
from vision_jax.data.sources import ArraySource, Concatenated
from vision_jax.errors import InputError


def test_it_is_its_parts_one_after_the_other(data_dir):
    parts = [open_source("digits", s, data_dir=data_dir) for s in ("train[:5]", "test[:3]")]
    whole = Concatenated.of(parts)
    assert len(whole) == 8
    assert whole.splits() == ["train"] * 5 + ["test"] * 3
    assert whole.key(0) == "digits/train[:5]/0"
    assert whole.key(5) == "digits/test[:3]/0"
    assert whole.digests() == [digest for part in parts for digest in part.digests()]
    np.testing.assert_array_equal(whole.labels(), np.concatenate([p.labels() for p in parts]))
    rows = [example for part in parts for example in part.read(range(len(part)))]
    order = [7, 0, 5, 5, 2]
    for place, example in zip(order, whole.read(order), strict=True):
        np.testing.assert_array_equal(example["image"], rows[place]["image"])
        assert example["label"] == rows[place]["label"]


def test_parts_that_differ_are_named(small_source):
    blank = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(InputError, match=r"shape \(4, 4, 1\); \(8, 8, 1\)"):
        Concatenated.of([small_source, ArraySource.from_arrays(blank)])
    unlabelled = ArraySource.from_arrays(small_source.images)
    with pytest.raises(InputError, match="differ in labels"):
        Concatenated.of([small_source, unlabelled])
    assert Concatenated.of([unlabelled, unlabelled]).labels() is None
