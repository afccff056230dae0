import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.parallel.devices import Devices
from vision_jax.search import CosineIndex
from vision_jax.search.sharded import Sharded, _compiled

ROWS, DIM = 6001, 16


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((ROWS, DIM), np.float32)
    gallery[5000:5010] = gallery[10:20]  # ties across devices
    return gallery, np.concatenate([gallery[8:20], rng.standard_normal((9, DIM), np.float32)])


@pytest.fixture(scope="module")
def on_one_device(data):
    gallery, queries = data
    return Sharded(gallery, Devices.over(1)).search(queries, 10)


def test_one_device_equals_the_index(data, on_one_device):
    gallery, queries = data
    index = CosineIndex(DIM)
    index.add(gallery)
    scores, ids = index.search(queries, 10)
    np.testing.assert_array_equal(on_one_device[1], ids)
    np.testing.assert_allclose(on_one_device[0], scores, rtol=1e-6)


@pytest.mark.parametrize("devices", [2, 4])
def test_the_answer_does_not_depend_on_the_devices(data, on_one_device, devices):
    gallery, queries = data
    found = Sharded(gallery, Devices.over(devices)).search(queries, 10)
    for ours, theirs in zip(found, on_one_device, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fewer_rows_than_devices():
    gallery = np.eye(4, dtype=np.float32)[:3]
    scores, ids = Sharded(gallery, Devices.over(4)).search(gallery[:1], 3)
    np.testing.assert_array_equal(ids, [[0, 1, 2]])
    np.testing.assert_array_equal(scores, [[1, 0, 0]])


def test_a_changed_index_compiles_nothing_new(data):
    gallery, queries = data
    index = CosineIndex(DIM)
    index.add(gallery[:2000])
    index.search(queries, 3, method="sharded")
    before = _compiled.cache_info().misses
    index.remove([0])
    index.add(gallery[:1])
    index.search(queries, 3, method="sharded")
    assert _compiled.cache_info().misses == before
    held = index._methods.current["sharded"]._rows[0]
    assert {shard.device for shard in held.addressable_shards} == set(jax.local_devices())


def test_a_rounded_index_is_spread_as_it_is_stored(data):
    gallery, queries = data
    index = CosineIndex(DIM, dtype="int8")
    index.add(gallery)
    expected = index.search(queries, 10)
    scores, ids = index.search(queries, 10, method="sharded")
    np.testing.assert_array_equal(ids, expected[1])
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5)
    assert index._methods.current["sharded"]._rows[0].dtype == np.int8


@pytest.mark.slow
def test_64_devices_equal_one_and_exchange_8_bytes_per_candidate():
    script = Path(__file__).with_name("many_devices.py")
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=64"}
    run = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | flags | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "equal", run.stderr


def made_since(before):
    """Count the bytes of arrays per device."""
    known, total = set(map(id, before)), {}
    for array in jax.live_arrays():
        if id(array) not in known:
            for shard in array.addressable_shards:
                total[shard.device] = total.get(shard.device, 0) + shard.data.nbytes
    return total


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_file_larger_than_a_device_is_opened_a_part_per_device(
    data, tmp_path, monkeypatch, dtype
):
    gallery, queries = data
    index = CosineIndex(DIM, dtype=dtype)
    ids = np.random.default_rng(2).permutation(ROWS)
    index.add(gallery, ids)
    index.save(tmp_path / "a.index")
    expected = index.search(queries, 10, method="sharded")
    place, placed = jax.device_put, []
    before = jax.live_arrays()
    monkeypatch.setattr(
        jax, "device_put", lambda x, *args: placed.append(x.nbytes) or place(x, *args)
    )
    stored = CosineIndex.load(tmp_path / "a.index", method="sharded")
    found = stored.search(queries, 10, method="sharded")
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    part = -(-ROWS // 4) * DIM * (1 if dtype == "int8" else 4)
    assert max(placed) == part  # nothing larger, at any time
    kept = made_since(before)
    assert set(kept) == set(jax.local_devices())
    assert max(kept.values()) < part + 8 * ROWS + 4096  # and a mask, scales, the answer
    assert stored.nbytes == 0
    # What else an index does takes the vectors from the file, or puts them on one device.
    np.testing.assert_array_equal(stored.vectors(ids[:5]), index.vectors(ids[:5]))
    exact = index.search(queries, 10)
    for ours, theirs in zip(stored.search(queries, 10), exact, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert stored.nbytes == index.nbytes
    changed = CosineIndex.load(tmp_path / "a.index", method="sharded")
    for one in (changed, index):
        one.remove(ids[:3])
        one.add(gallery[:2])
    for ours, theirs in zip(changed.search(queries, 10), index.search(queries, 10), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    changed.save(tmp_path / "a.index")  # over the file that it was read from
    assert len(CosineIndex.load(tmp_path / "a.index")) == ROWS - 1


def test_an_altered_file_is_refused_before_it_is_searched(data, tmp_path):
    index = CosineIndex(DIM)
    index.add(data[0][:50])
    index.save(tmp_path / "a.index")
    content = bytearray((tmp_path / "a.index").read_bytes())
    content[800] ^= 1
    (tmp_path / "a.index").write_bytes(content)
    with pytest.raises(InputError, match="the values are altered"):
        CosineIndex.load(tmp_path / "a.index", method="sharded")
    empty = CosineIndex(DIM)
    empty.save(tmp_path / "b.index")
    stored = CosineIndex.load(tmp_path / "b.index", method="sharded")
    assert (stored.search(data[1], 2, method="sharded")[1] == -1).all()
