from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vision_jax.data.loader import read_all
from vision_jax.data.sources import ArraySource
from vision_jax.evaluation import data
from vision_jax.evaluation.data import EvaluationData, _held
from vision_jax.run.run import load_run


def test_images_held_in_memory_are_those_of_the_source(small_source):
    size = small_source.images.nbytes
    assert _held(small_source, size - 1) is small_source
    held = _held(small_source, size)
    rows = np.random.default_rng(0).integers(0, len(held), (64, 9)).tolist()
    with ThreadPoolExecutor(8) as pool:
        for indices, found in zip(rows, pool.map(held.read, rows), strict=True):
            for example, expected in zip(found, small_source.read(indices), strict=True):
                np.testing.assert_array_equal(example["image"], expected["image"])
                assert example["label"] == expected["label"]
    np.testing.assert_array_equal(held.labels(), small_source.labels())
    assert [held.key(i) for i in range(50)] == [small_source.key(i) for i in range(50)]


def test_queries_are_an_even_choice_of_sorted_classes(workdir, monkeypatch):
    monkeypatch.setattr(data, "_MAX_QUERIES", 20)
    labels = np.repeat(np.arange(10), 7)
    images = np.arange(70, dtype=np.uint8).reshape(70, 1, 1, 1)
    source = ArraySource.from_arrays(images, labels)
    found = EvaluationData(load_run(workdir), source, source).queries
    assert np.bincount(found.labels()).tolist() == [2] * 10
    assert read_all(found)["image"].max() == 69
    assert source.spaced(70) is source


def test_training_images_are_embedded_once(workdir, monkeypatch):
    run = load_run(workdir)
    found = EvaluationData.of(run, "test[:10]")
    expected = run.embed(read_all(run.source("train[:90%]"))["image"])
    np.testing.assert_array_equal(found.train_vectors, expected)
    monkeypatch.setattr(type(run), "embed", None)
    np.testing.assert_array_equal(found.train_vectors, expected)
    assert len(found.test) == 10
