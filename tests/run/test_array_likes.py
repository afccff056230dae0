"""Every way to give the same images and labels gives the same result; other values are refused."""

import contextlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vision_jax.data.arrays import as_labels, as_pixels
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.models import CNN
from vision_jax.run.run import load_run
from vision_jax.tasks.classification import Classification
from vision_jax.training.loop import fit

quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)
COUNTS = (1, 3)
"""Of images; few, for each number takes a while to compile."""


def as_objects(rows):
    objects = np.empty(len(rows), object)
    objects[:] = list(rows)
    return objects


def read_only(rows):
    rows = rows.copy()
    rows.flags.writeable = False
    return rows


ALIKE = {
    "array": lambda x: x,
    "list": lambda x: x.tolist(),
    "tuple of arrays": tuple,
    "list of jax arrays": lambda x: list(map(jnp.asarray, x)),
    "objects": as_objects,
    "jax": jnp.asarray,
    "int64": lambda x: x.astype(np.int64),
    "uint16, big-endian": lambda x: x.astype(">u2"),
    "whole float16": lambda x: x.astype(np.float16),
    "whole float64, big-endian": lambda x: x.astype(">f8"),
    "Fortran": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, 0)[::2],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
}
IMAGES_ALIKE = ALIKE | {
    "Pillow": lambda x: [Image.fromarray(image[..., 0]) for image in x],
    "float32 in [0, 1]": lambda x: (x / 255).astype(np.float32),
    "float64 in [0, 1]": lambda x: x / 255,
}
LABELS_ALIKE = ALIKE | {
    "column": lambda x: x[:, None].tolist(),
    "one-hot": lambda x: np.eye(10)[x],
    "booleans": lambda x: np.eye(10)[x] > 0,
}
OTHER_IMAGES = {
    "channels first": lambda x: np.moveaxis(x, -1, 1),
    "no channels": lambda x: x[..., 0],
    "one image": lambda x: x[0],
    "normalized": lambda x: x / 127.5 - 1,
    "standardized": lambda x: (x - x.mean()) / x.std(),
    "doubled": lambda x: 2 * x.astype(int),
    "halved": lambda x: x / 2,
    "negative": lambda x: -x.astype(int),
    "NaN": lambda x: np.where(x == 255, np.nan, x / 255),
    "infinite": lambda x: np.where(x == 255, np.inf, x / 255),
    "text": lambda x: x.astype(str),
    "complex": lambda x: x.astype(complex),
    "ragged": lambda x: [*x.tolist(), [[[1]]]],
    "a list of masked": lambda x: list(np.ma.masked_equal(x, 255)),
    "None within": lambda x: [*x, None],
    "a file's name": lambda _: "cat.png",
    "nothing": lambda _: None,
    "a generator": iter,
    "a dictionary": lambda x: {"image": x},
    "no images of no size": lambda _: np.zeros((0, 0, 0, 1)),
}


@st.composite
def images(draw):
    """Images of 8x8x1, of which some value is 255: else whole floats may be in [0, 1]."""
    count, seed = draw(st.sampled_from(COUNTS)), draw(st.integers(0, 99))
    rows = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8)
    rows[..., 0, 0] = 255
    return rows


@pytest.fixture(scope="session")
def run(workdir):
    return load_run(workdir)


@quick
@given(images(), st.sampled_from(sorted(IMAGES_ALIKE)), st.booleans())
def test_a_run_answers_alike_for_all_that_means_the_same(run, rows, way, embeds):
    ask = run.embed if embeds else run.predict
    np.testing.assert_allclose(ask(IMAGES_ALIKE[way](rows)), ask(rows), rtol=1e-4, atol=1e-5)
    source = ArraySource.from_arrays(IMAGES_ALIKE[way](rows))
    np.testing.assert_array_equal(source.images, rows)


@quick
@given(images(), st.sampled_from([np.float16, np.float32, np.float64, ">f4", jnp.bfloat16]))
def test_a_run_takes_floats_in_the_unit_interval_as_they_are(run, rows, dtype):
    floats = (rows / 255).astype(dtype)
    expected = run.predict(np.asarray(floats, np.float32))
    np.testing.assert_array_equal(run.predict(floats), expected)


@settings(quick, max_examples=60)
@given(images(), st.sampled_from(sorted(OTHER_IMAGES)))
def test_images_that_mean_something_else_are_one_line(run, rows, way):
    for call in (run.predict, run.embed, as_pixels, ArraySource.from_arrays):
        with pytest.raises(InputError) as caught:
            call(OTHER_IMAGES[way](rows))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(8, 8, 3), (7, 8, 1), (16, 16, 1)])
def test_images_of_another_size_are_one_line(run, size):
    with pytest.raises(InputError, match=r"images have shape .* takes \(8, 8, 1\)"):
        run.predict(np.zeros((2, *size), np.uint8))


@pytest.mark.parametrize("none", [[], (), np.zeros((0, 8, 8, 1)), np.zeros((0, 8, 8, 1), np.uint8)])
def test_no_images_are_no_answers(run, none):
    assert run.predict(none).shape == (0, 10)
    assert run.embed(none).shape == (0, 64)
    with pytest.raises(InputError):
        ArraySource.from_arrays(none)


@quick
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=6).map(lambda x: np.uint8([0, *x])),
    st.sampled_from(sorted(LABELS_ALIKE)),
)
def test_labels_are_read_alike(labels, way):
    names = [f"class {i}" for i in range(10)]
    found, classes = as_labels(LABELS_ALIKE[way](labels), len(labels), label_names=names)
    np.testing.assert_array_equal(found, labels)
    assert classes == tuple(names)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.integers(),
    st.floats(),
    st.text(max_size=2),
    st.binary(max_size=2),
    st.complex_numbers(),
    st.sampled_from([{}, {1}, np.datetime64("2020"), object()]),
)
NESTED = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=2), st.tuples(inner)), max_leaves=8
)


@settings(quick, max_examples=150)
@given(st.one_of(NESTED, st.builds(lambda value: [[[[value]]]] * 2, SCALARS)))
def test_anything_else_is_one_line(values):
    for call in (as_pixels, lambda values: as_labels(values, 2), ArraySource.from_arrays):
        with contextlib.suppress(InputError):
            call(values)


@pytest.mark.parametrize(("way", "label_way"), [("float64 in [0, 1]", "one-hot")])
def test_training_is_alike_for_all_that_means_the_same(way, label_way):
    rows = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), np.uint8)
    rows[..., 0, 0] = 255
    labels = np.uint8([0, 1, 2, 9, 4, 5, 6, 7])
    losses = []
    for given_rows, given_labels in (
        (rows, labels),
        (IMAGES_ALIKE[way](rows), LABELS_ALIKE[label_way](labels)),
    ):
        source = ArraySource.from_arrays(given_rows, given_labels)
        model = CNN(num_classes=10, stages=(2,), hidden=4, padding="SAME")
        task = Classification(model, optax.sgd(0.1))
        history = fit(task, source, batch_size=8, epochs=1, progress=False).history
        losses.append(history[0]["train/loss"])
    assert losses[0] == losses[1]
