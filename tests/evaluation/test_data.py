from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vision_jax.data.loader import read_all
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


def test_training_images_are_embedded_once(workdir, monkeypatch):
    run = load_run(workdir)
    data = EvaluationData.of(run, "test[:10]")
    expected = run.embed(read_all(run.source("train[:90%]"))["image"])
    np.testing.assert_array_equal(data.train_vectors, expected)
    monkeypatch.setattr(type(run), "embed", None)
    np.testing.assert_array_equal(data.train_vectors, expected)
    assert len(data.test) == 10
