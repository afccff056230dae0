import gzip
import importlib.util
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from vision_jax.data.builders.fashion_mnist import read_idx
from vision_jax.data.catalog import open_source
from vision_jax.data.loader import read_all
from vision_jax.data.prepare import prepare
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError


def test_digits_are_scikit_learns(data_dir, digits):
    images, labels = digits
    for split, part in (("train", slice(0, 1437)), ("test", slice(1437, None))):
        source = open_source("digits", split, data_dir=data_dir)
        assert source.image_shape == (8, 8, 1)
        assert source.label_names == tuple("0123456789")
        rows = read_all(source)
        # The files are in an order of their own: compare as sets of (image, label).
        found = {(i.tobytes(), int(k)) for i, k in zip(rows["image"], rows["label"], strict=True)}
        wanted = {(i.tobytes(), int(k)) for i, k in zip(images[part], labels[part], strict=True)}
        assert len(source) == len(images[part])
        assert found == wanted
        np.testing.assert_array_equal(source.labels(), rows["label"])


def test_splits_slice(data_dir):
    sizes = [len(open_source("digits", s, data_dir=data_dir)) for s in ("train[:90%]", "all")]
    assert sizes == [1293, 1797]


def test_images_are_resized_on_request(data_dir):
    source = open_source("digits", "test", data_dir=data_dir, image_size=16, channels=3)
    assert source.read([0])[0]["image"].shape == source.image_shape == (16, 16, 3)


def test_data_needs_no_tensorflow(data_dir):
    open_source("digits", "test", data_dir=data_dir).read([0, 5])
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("nothing", "train", "'nothing' is not a data set; needed: digits"),
        ("digits", "trian", r"nothing at 'trian'; its splits: train \(1437\), test \(360\)"),
        ("digits", "train[:0]", "nothing at"),
        ("digits", "all[:50%]", r"no slices of all, as .*; slices of its splits are needed: train"),
    ],
)
def test_what_is_not_there_is_named(data_dir, name, split, message):
    with pytest.raises(InputError, match=message):
        open_source(name, split, data_dir=data_dir)


@pytest.mark.parametrize("place", ["https://example.org/sets", Path("gs://bucket/sets")])
@pytest.mark.parametrize("name", ["digits", "nothing"])
def test_a_data_dir_that_cannot_be_opened_is_refused(name, place):
    with pytest.raises(
        InputError, match=r"data_dir is '\w+:/.*; a folder or gs://BUCKET/FOLDER is"
    ):
        open_source(name, "train", data_dir=place)
    with pytest.raises(InputError, match=r"data_dir is '\w+:/.*; a folder is needed"):
        prepare(name, data_dir=place)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is there")
def test_a_bucket_takes_a_package(data_dir):
    with pytest.raises(InputError, match=r"'gs://bucket/sets', which takes pip install"):
        open_source("digits", "train", data_dir="gs://bucket/sets")


def test_manual_folder_is_checked_first(tmp_path):
    with pytest.raises(InputError, match="an existing folder is needed"):
        prepare("fashion_mnist", data_dir=tmp_path, manual_dir=tmp_path / "gone")
    (tmp_path / "some").mkdir()
    with pytest.raises(InputError, match=r"lacks train-images-idx3-ubyte\.gz"):
        prepare("fashion_mnist", data_dir=tmp_path, manual_dir=tmp_path / "some")


def idx(array):
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.tobytes()


def test_idx_files_are_read_packed_or_not(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name, data in (("a", idx(array)), ("a.gz", gzip.compress(idx(array)))):
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(read_idx(tmp_path / name, (2, 3, 4)), array)


@pytest.mark.parametrize("harm", [lambda d: d[:-1], lambda d: d[:6], lambda d: b"\0" + d])
def test_damaged_idx_files_are_named(tmp_path, harm):
    path = tmp_path / "images"
    path.write_bytes(harm(idx(np.zeros((2, 3, 4), np.uint8))))
    with pytest.raises(InputError, match="images"):
        read_idx(path, (2, 3, 4))
    path.write_bytes(gzip.compress(idx(np.zeros((2, 3, 4), np.uint8)))[:-9])
    with pytest.raises(InputError, match="images"):
        read_idx(path, (2, 3, 4))


def test_arrays_are_checked():
    images = np.zeros((3, 4, 4, 1), np.uint8)
    with pytest.raises(InputError, match=r"labels of arrays are in \[-1, 0\]; \[0, 1\) is needed"):
        ArraySource.from_arrays(images, np.array([0, 0, -1], np.int32))
    with pytest.raises(InputError, match="0 images"):
        ArraySource.from_arrays(images[:0])
