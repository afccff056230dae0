"""Index files that the first version wrote, in the folder `first_version`."""

from pathlib import Path

import numpy as np
import pytest

from vision_jax.search import CosineIndex

FILES = Path(__file__).parent / "first_version"
IDS = [2, 3, 5, 7, 11]  # the file's vectors; another, 13, was removed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_it_is_loaded_and_saved_bit_for_bit(dtype, tmp_path):
    index = CosineIndex.load(FILES / f"{dtype}.index")
    assert index.dtype == dtype
    assert index.about == {
        "workdir": "runs/digits",
        "step": 120,
        "source": "digits",
        "split": "train",
    }
    np.testing.assert_array_equal(index.ids, IDS)
    assert [row["key"] for row in index.metadata(IDS)] == [f"digits/train/{i}" for i in range(5)]
    rows = np.random.default_rng(0).standard_normal((6, 4), np.float32)[:5]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(index.vectors(IDS), unit, atol={"int8": 0.01}.get(dtype, 0.005))
    np.testing.assert_array_equal(index.search(rows, 1)[1][:, 0], IDS)
    index.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (FILES / f"{dtype}.index").read_bytes()
    assert index.add(rows[:1]).tolist() == [14]
