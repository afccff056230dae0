"""Reading a checkpoint's arrays without orbax."""

import json
import subprocess
import sys
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.steps import DataParallel
from vision_jax.training.stored_state import read_state


@pytest.fixture(scope="module")
def tree():
    keys = jax.random.split(jax.random.key(3), 4)
    return {
        "step": jnp.int32(7),
        "key": jax.random.key(7),
        "params": {"a b": jax.random.normal(keys[0], (3, 3, 2, 5))},
        "half": jax.random.normal(keys[1], (9,)).astype(jnp.bfloat16),
        "opt_state": (jnp.arange(5), {}, (jax.random.normal(keys[2], (300, 400)),)),
        "average": {},
    }


@pytest.fixture(scope="module")
def folder(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "été %20" / "checkpoints"
    folder.parent.mkdir()
    with closing(Checkpoints(folder, metric=None, create=True)) as checkpoints:
        checkpoints.save(1, tree, {"loss": jnp.ones(2)}, {"step": 1}, {})
    return folder


@pytest.mark.parametrize("devices", [1, 4])
def test_it_is_bit_for_bit_what_was_saved_where_it_is_needed(tree, folder, devices, monkeypatch):
    monkeypatch.setattr(Checkpoints, "_reader", None)  # orbax is not asked
    target = DataParallel.over(devices).replicated(tree)
    with closing(Checkpoints(folder, metric=None)) as checkpoints:
        restored = checkpoints.restore(1, state=target)["state"]
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    for found, saved, wanted in zip(*map(jax.tree.leaves, (restored, tree, target)), strict=True):
        if jnp.issubdtype(saved.dtype, jax.dtypes.prng_key):
            found, saved = jax.random.key_data(found), jax.random.key_data(saved)
        else:
            assert found.sharding == wanted.sharding
        assert found.dtype == saved.dtype
        assert np.asarray(found).tobytes() == np.asarray(saved).tobytes()


def test_what_is_not_just_as_needed_is_left_to_orbax(tree, folder, tmp_path):
    def read(place=folder / "1" / "state", **changed):
        return read_state(place, DataParallel.over(1).replicated(tree | changed))

    assert read() is not None
    assert read(half=jnp.zeros(9)) is None  # another type
    assert read(half=jnp.zeros(8, jnp.bfloat16)) is None
    assert read(key=jax.random.key(7, impl="rbg")) is None
    assert read(more=jnp.zeros(1)) is None
    assert read(average={"a": jnp.zeros(1)}) is None
    assert read(tmp_path) is None
    (tmp_path / "_METADATA").write_text(json.dumps({"use_ocdbt": True, "use_zarr3": True}))
    assert read(tmp_path) is None


def test_a_run_is_loaded_without_importing_orbax():
    code = """
import sys
from vision_jax.gallery import find_hits, load_index
from vision_jax.run.run import load_run
slow = {"orbax", "tensorstore", "tensorflow", "grain", "array_record", "matplotlib", "sklearn"}
assert not slow & set(sys.modules), slow & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
