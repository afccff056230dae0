import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from vision_jax.parallel.devices import Devices
from vision_jax.search import CosineIndex
from vision_jax.search.sharded import ShardedGallery, local_rows

ROWS, DIM = 6001, 16

PROCESS = """
import sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from vision_jax.search.sharded import ShardedGallery, local_rows
from vision_jax.parallel.devices import Devices
saved = np.load(sys.argv[3])
parallel = Devices.over()
rows = local_rows(len(saved["gallery"]), parallel)
part = saved["gallery"][rows.start : rows.stop]
sharded = ShardedGallery(part, total=len(saved["gallery"]), parallel=parallel)
scores, ids = sharded.search(saved["queries"], 10)
np.savez(sys.argv[4], scores=scores, ids=ids, held=len(part), devices=jax.device_count())
"""


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((ROWS, DIM), np.float32)
    gallery[5000:5010] = gallery[10:20]  # ties across devices
    return gallery, np.concatenate([gallery[8:20], rng.standard_normal((9, DIM), np.float32)])


@pytest.fixture(scope="module")
def on_one_device(data):
    gallery, queries = data
    return ShardedGallery(gallery, total=ROWS, parallel=Devices.over(1)).search(queries, 10)


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
    parallel = Devices.over(devices)
    found = ShardedGallery(gallery, total=ROWS, parallel=parallel).search(queries, 10)
    for ours, theirs in zip(found, on_one_device, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fewer_rows_than_devices():
    gallery = np.eye(4, dtype=np.float32)[:3]
    sharded = ShardedGallery(gallery, total=3, parallel=Devices.over(4))
    scores, ids = sharded.search(gallery[:1], 5)
    np.testing.assert_array_equal(ids, [[0, 1, 2, -1, -1]])
    np.testing.assert_array_equal(scores, [[1, 0, 0, -np.inf, -np.inf]])


def test_two_processes_equal_one(data, on_one_device, tmp_path):
    np.savez(tmp_path / "data.npz", gallery=data[0], queries=data[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, f"{rank}", "data.npz", f"{rank}.npz"],
            cwd=tmp_path,
            env=environment,
        )
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    held = 0
    for rank in range(2):
        found = np.load(tmp_path / f"{rank}.npz")
        assert found["devices"] == 4
        held += int(found["held"])
        np.testing.assert_array_equal(found["scores"], on_one_device[0])
        np.testing.assert_array_equal(found["ids"], on_one_device[1])
    assert held == ROWS


def test_bad_input_is_named(data):
    parallel = Devices.over(2)
    assert local_rows(5, parallel) == range(5)
    with pytest.raises(ValueError, match="rows 0 to 5: need 5 vectors, got 4"):
        ShardedGallery(np.ones((4, 2), np.float32), total=5, parallel=parallel)
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        ShardedGallery(np.float32([[1, 2], [0, 0]]), total=2, parallel=parallel)
    sharded = ShardedGallery(np.ones((4, 2), np.float32), total=4, parallel=parallel)
    with pytest.raises(ValueError, match="got 0"):
        sharded.search(np.ones((1, 2), np.float32), 0)
    with pytest.raises(ValueError, match=r"width 2, got \(1, 3\)"):
        sharded.search(np.ones((1, 3), np.float32), 1)
