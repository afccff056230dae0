"""The rule for images and labels given as arrays, held against what was meant."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from vision_jax.data.arrays import as_images, as_labels, as_pixels
from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

WAYS = {
    "uint8": lambda x: x,
    "int64": lambda x: x.astype(np.int64),
    "uint16": lambda x: x.astype(np.uint16),
    "list": lambda x: x.tolist(),
    "list of arrays": list,
    "objects": lambda x: as_objects(x),
    "jax": jnp.asarray,
    "jax float": lambda x: jnp.asarray(x, jnp.float32) / 255,
    "x / 255": lambda x: x / 255,
    "x / 255 in float32": lambda x: (x / 255).astype(np.float32),
    "Fortran": lambda x: np.asfortranarray(x / 255.0),
    "every other": lambda x: np.repeat(x, 2, 1)[:, ::2],
    "whole floats": lambda x: np.where(x == x.max(), 255, x).astype(np.float64),
}


def as_objects(array):
    objects = np.empty(len(array), object)
    objects[:] = list(array)
    return objects


def pixels(shape=(3, 5, 4, 3)):
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    values.flat[0] = 255
    return values


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_way_to_give_the_same_images_gives_the_same(way, channels):
    images = pixels((3, 5, 4, channels))
    found = as_images(WAYS[way](images))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images)
    source = ArraySource.from_arrays(WAYS[way](images), [0, 1, 0])
    resident = Loader(source, 3, train=False).resident()["image"]
    np.testing.assert_array_equal(resident, images)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, jnp.bfloat16])
def test_floats_stay_as_they_are_for_a_network(dtype):
    values = np.random.default_rng(0).random((2, 3, 3, 1)).astype(dtype)
    found = as_pixels(values)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))
    expected = np.floor(values.astype(np.float64) * 255 + 0.5)
    assert abs(as_images(values).astype(int) - expected).max() <= 1


def test_booleans_are_black_and_white_and_rounding_is_forgiven():
    images = np.array([True, False]).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(as_images(images), [[[[255], [0]]]])
    np.testing.assert_array_equal(as_pixels(images), [[[[1.0], [0.0]]]])
    over = np.array([-1e-7, 1.0000002], np.float32).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(as_pixels(over), [[[[0.0], [1.0]]]])


def test_no_images_are_images():
    assert as_images(np.zeros((0, 4, 4, 3))).shape == (0, 4, 4, 3)
    assert as_pixels([], image_shape=(4, 5, 1)).shape == (0, 4, 5, 1)


def test_pillow_images_are_taken_in_the_modes_that_mean_pixels():
    images = pixels()
    np.testing.assert_array_equal(as_images([Image.fromarray(image) for image in images]), images)
    palette = Image.fromarray(images[0]).quantize(8)
    with pytest.raises(InputError, match=r"images\[1\] is a Pillow image of mode P; L or RGB"):
        as_images([Image.fromarray(images[0, ..., 0]), palette])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pixels() / 255.0 * 2 - 1, r"floats in \[-1, 1\]; floats in \[0, 1\] or uint8"),
        (pixels() / 2.0, r"floats in \[0, 127.5\]; floats in \[0, 1\]"),
        (pixels() * 2.0, r"floats in \[0, 510\]"),
        (pixels().astype(int) * 257, r"integers in \[0, 65535\]; integers in \[0, 255\]"),
        (pixels().astype(int) - 1, r"integers in \[-1, 254\]"),
        (np.moveaxis(pixels((2, 5, 4, 3)), -1, 1), r"\(2, 3, 5, 4\); .* np.moveaxis"),
        (np.moveaxis(pixels((2, 5, 4, 1)), -1, 1), r"\(2, 1, 5, 4\); .* np.moveaxis"),
        (pixels()[0], r"\(5, 4, 3\); .* images\[None\] for one image"),
        (pixels((8, 5, 4)), r"images\[..., None\] for grey images"),
        (np.zeros((2, 0, 4, 3)), r"\(2, 0, 4, 3\)"),
        (np.zeros(5), r"shape \(5,\); \(N, height, width, channels\) is needed"),
        ([], r"shape \(0,\)"),
        ("cat.png", "shape"),
        (np.array([["a"]]).reshape(1, 1, 1, 1), "type <U1"),
        (np.zeros((1, 2, 2, 1), complex), "type complex128"),
        ([np.zeros((2, 2, 1)), np.zeros((3, 2, 1))], "cannot be made one array"),
        (as_objects([np.zeros((2, 2, 1)), np.zeros((3, 2, 1))]), "cannot be made one array"),
        (np.ma.masked_equal(pixels(), 255), "are masked"),
        (list(np.ma.masked_equal(pixels(), 255)), "are masked"),
        (None, r"shape \(\)"),
    ],
)
def test_images_that_leave_doubt_are_refused(images, message):
    for function in (as_images, as_pixels):
        with pytest.raises(InputError, match=message):
            function(images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_no_numbers_are_named(value):
    images = np.zeros((4, 2, 2, 1))
    images[2, 0, 1] = value
    with pytest.raises(InputError, match="hold NaN or infinite values, first in image 2"):
        as_pixels(images)


@quick
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, bool]),
        hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4),
    )
)
def test_any_array_is_images_or_an_input_error(array):
    try:
        images, exact = as_images(array), as_pixels(array)
    except InputError:
        return
    assert images.shape == exact.shape == array.shape
    assert images.dtype == np.uint8
    if array.size == 0:
        return
    if exact.dtype == np.uint8:
        np.testing.assert_array_equal(images, array)
    else:
        assert exact.dtype == np.float32
        np.testing.assert_allclose(exact, array.astype(np.float32), atol=1.1e-5)
        np.testing.assert_allclose(images / 255, exact, atol=0.5001 / 255)


LABELS = np.array([0, 2, 1, 2])


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.tolist(),
        tuple(LABELS),
        LABELS.astype(np.uint8),
        LABELS.astype(np.float32),
        LABELS[:, None],
        jnp.asarray(LABELS),
        as_objects(LABELS),
        np.eye(3)[LABELS],
        np.eye(3, dtype=int)[LABELS].tolist(),
        np.eye(3, dtype=bool)[LABELS],
    ],
)
def test_every_way_to_give_the_same_labels_gives_the_same(labels):
    found, names = as_labels(labels, 4)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, LABELS)
    assert names == ("0", "1", "2")
    assert as_labels(labels, 4, label_names=["a", "b", "c"])[1] == ("a", "b", "c")


def test_one_hot_rows_keep_a_class_without_images():
    labels, names = as_labels(np.eye(4)[[1, 2]], 2)
    np.testing.assert_array_equal(labels, [1, 2])
    assert names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([1, 2, 3, 1], None, r"in \[1, 3\], and classes count from 0: subtract 1"),
        ([1, 2, 3, 1], "abc", r"\[1, 3\]; \[0, 3\) is needed, and they seem to count from 1"),
        ([0, 1, 5, 1], "abc", r"\[0, 5\]; \[0, 3\) is needed"),
        ([0, 1, -1, 1], None, r"\[-1, 1\]; \[0, 2\) is needed"),
        ([0, 1, 2], None, r"shape \(3,\); one for each of 4 images"),
        ([0, 1, 2, 1.5], None, r"\[3\] is 1.5; whole numbers"),
        ([0, np.nan, 2, 1], None, r"\[1\] is nan; whole numbers"),
        ([0, np.inf, 2, 1], None, r"\[1\] is inf; whole numbers"),
        ([0, None, 2, 1], None, "of type object; whole numbers"),
        (["a", "b", "a", "b"], None, "whole numbers are needed"),
        ([[0.3, 0.7]] * 4, None, r"shape \(4, 2\) and are not one-hot"),
        ([[1, 1]] * 4, None, "are not one-hot"),
        (np.eye(4), "abc", "one-hot of 4 classes, of which 3 are named"),
        (np.zeros((4, 2, 2)), None, r"shape \(4, 2, 2\)"),
        ([0, 1, 2, 10**9], None, r"\[0, 1000000000\]; \[0, 1048576\) is needed"),
        (3, None, r"shape \(\)"),
    ],
)
def test_labels_that_leave_doubt_are_refused(labels, names, message):
    with pytest.raises(InputError, match=message):
        as_labels(labels, 4, label_names=names)


@quick
@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.int64, np.uint64, np.float32, np.float64, bool]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5),
    )
)
def test_any_array_is_labels_or_an_input_error(array):
    try:
        labels, names = as_labels(array, len(array))
    except InputError:
        return
    assert labels.shape == (len(array),)
    assert labels.min() >= 0
    assert labels.max() < len(names)
    if array.ndim == 1 or array.shape[1] == 1:
        np.testing.assert_array_equal(labels, array.reshape(-1))
    else:
        np.testing.assert_array_equal(np.eye(array.shape[1])[labels], array)


def test_sources_name_what_they_are_made_of():
    with pytest.raises(InputError, match=r"images of faces are floats in \[-1, 0\]"):
        ArraySource.from_arrays(-np.eye(2).reshape(1, 2, 2, 1), name="faces")
    with pytest.raises(InputError, match=r"labels of faces have shape \(2,\); .* 3 images"):
        ArraySource.from_arrays(pixels(), [0, 1], name="faces")


def test_no_labels_are_refused():
    with pytest.raises(InputError, match="labels are 0; at least 1 is needed"):
        as_labels([], 0)
