"""A run and an index that version 0.1 wrote on Python 3.11 and jax 0.10: read as they were."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from vision_jax.gallery.lookup import load_index
from vision_jax.run.run import load_run

STORED = Path(__file__).with_name("first_version.zip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first_version")
    zipfile.ZipFile(STORED).extractall(folder)
    return folder


def test_a_run_is_read_and_embeds_and_predicts_as_it_did(folder):
    run, expected = load_run(folder / "cnn"), np.load(folder / "expected.npz")
    assert run.config.data.mean == (0.3,)
    assert run.config.data.std == (0.5,)
    np.testing.assert_allclose(run.embed(expected["images"]), expected["embeddings"], atol=1e-5)
    np.testing.assert_allclose(
        run.predict(expected["images"]), expected["probabilities"], atol=1e-5
    )


def test_an_index_is_read_and_finds_what_it_did(folder):
    index, expected = load_index(folder / "digits.index"), np.load(folder / "expected.npz")
    scores, ids = index.search(expected["embeddings"], 1)
    np.testing.assert_allclose(scores, 1, atol=1e-5)
    assert {row["key"] for row in index.metadata(ids[:, 0])} <= {
        f"digits/test/{i}" for i in range(8)
    }
