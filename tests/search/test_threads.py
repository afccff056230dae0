"""Many threads at one index: reads are parallel and exact, and changes are whole."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vision_jax.search import CosineIndex, device_rows
from vision_jax.search.device_rows import DeviceRows
from vision_jax.search.lock import ReadWriteLock

DIM, K = 16, 5
PATIENCE = 60  # seconds, for a machine that is busy


@pytest.fixture(scope="module")
def core():
    """Vectors so close that the first pass in int8 proves little: its rounding is judged."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=DIM) + 0.05 * rng.normal(size=(5000, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def truth(core):
    unit = core.astype(np.float64) / np.linalg.norm(core.astype(np.float64), axis=1, keepdims=True)
    cosines = unit[:256] @ unit.T
    return cosines, -np.sort(-cosines, axis=1)[:, :K]


def check(cosines, best, scores, ids, queries):
    np.testing.assert_allclose(scores, best[queries], atol=2e-6)
    found = np.take_along_axis(cosines[queries], ids, 1)
    np.testing.assert_allclose(found, best[queries], atol=2e-6)
    assert all(len(set(row.tolist())) == K for row in ids)


def test_searches_at_once_are_exact_while_the_rounding_is_judged(core, truth, monkeypatch):
    monkeypatch.setattr(device_rows, "multiplies_bytes_fast", lambda: True)
    parts = [slice(start, start + 32) for start in range(0, 256, 32)]
    for _ in range(3):
        index = CosineIndex(DIM)
        index.add(core)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(index.search, core[part], K) for part in parts]
        found = [search.result() for search in asked]
        assert index._rows._state.rounding != device_rows.FIRST_ROUNDING
        for part, (scores, ids) in zip(parts, found, strict=True):
            check(*truth, scores, ids, part)


def test_searches_run_side_by_side(core, monkeypatch):
    index = CosineIndex(DIM)
    index.add(core)
    both = threading.Barrier(2)
    inner = device_rows.DeviceRows.search

    def search(*args):
        both.wait(PATIENCE)  # broken unless two searches are here at once
        return inner(*args)

    monkeypatch.setattr(device_rows.DeviceRows, "search", search)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: index.search(core[:1], 1)[1][0, 0], range(2)))
    assert found == [0, 0]


def test_threads_adds_removes_and_saves_at_once(core, truth, tmp_path):
    """Vectors that come and go point away from the queries, whose neighbours must stay the same."""
    index = CosineIndex(DIM, about="stress")
    index.add(core, metadata=list(range(len(core))))
    done = threading.Event()

    def search(thread):
        rng = np.random.default_rng(thread)
        while not done.is_set():
            start = int(rng.integers(0, 224))
            part = slice(start, start + int(rng.integers(1, 32)))
            match thread % 3:
                case 0:
                    check(*truth, *index.search(core[part], K), part)
                case 1:
                    ids = np.arange(part.start, part.stop)
                    scores, found = index.search_by_id(ids, K - 1)
                    np.testing.assert_allclose(scores, truth[1][part][:, 1:], atol=2e-6)
                    assert index.metadata(ids) == ids.tolist()
                case 2:
                    present = index.ids
                    assert len(set(present.tolist())) == len(present) >= len(core)
                    allowed = np.arange(part.start, part.stop)
                    _, found = index.search(core[allowed[:1]], 1, where=allowed)
                    assert found[0, 0] == allowed[0]

    def change(thread):
        rng = np.random.default_rng(100 + thread)
        for _ in range(6):
            rows = -core[rng.integers(0, len(core), int(rng.integers(1, 900)))]
            ids = index.add(rows, metadata=["away"] * len(rows))
            assert index.metadata(ids) == ["away"] * len(ids)
            index.remove(ids)

    def save(thread):
        for turn in itertools.count():
            if done.is_set():
                return turn
            index.save(tmp_path / "index")
            saved = CosineIndex.load(tmp_path / "index")
            assert set(saved.metadata(saved.ids)) <= {*range(len(core)), "away"}
            check(*truth, *saved.search(core[:8], K), slice(0, 8))
        return 0

    with ThreadPoolExecutor(9) as pool:
        others = [pool.submit(search, thread) for thread in range(6)] + [pool.submit(save, 0)]
        changes = [pool.submit(change, thread) for thread in range(2)]
        try:
            for job in changes:
                job.result()
        finally:
            done.set()
        for job in others:
            job.result()
    np.testing.assert_array_equal(index.ids, np.arange(len(core)))


def test_a_method_is_built_once_for_all_threads(core, monkeypatch):
    from vision_jax.search import inverted_file

    built = []
    build = inverted_file.build
    monkeypatch.setattr(inverted_file, "build", lambda *args: built.append(1) or build(*args))
    index = CosineIndex(DIM)
    index.add(core[:40])
    with ThreadPoolExecutor(4) as pool:
        call = lambda row: index.search(core[row : row + 1], 1, method="inverted_file")[1][0, 0]  # noqa: E731
        assert list(pool.map(call, range(4))) == [0, 1, 2, 3]
    assert built == [1]


def test_a_writer_is_alone_and_goes_before_later_readers():
    lock, order = ReadWriteLock(), []
    reading, inside = threading.Event(), threading.Event()

    def read_first():
        with lock.reading():
            inside.set()
            reading.wait(PATIENCE)
            order.append("first reader")

    def write():
        with lock.writing():
            order.append("writer")

    def read_later():
        with lock.reading():
            order.append("later reader")

    threads = [threading.Thread(target=part) for part in (read_first, write, read_later)]
    threads[0].start()
    assert inside.wait(PATIENCE)
    threads[1].start()
    while not lock._waiting:  # the writer has asked
        threads[1].join(0.01)
    threads[2].start()
    threads[2].join(0.1)
    assert order == []
    reading.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["first reader", "writer", "later reader"]


def test_an_error_lets_go_of_the_lock():
    lock = ReadWriteLock()
    for hold in (lock.reading, lock.writing):
        with pytest.raises(KeyError), hold():
            raise KeyError
    with lock.writing():
        pass


@pytest.mark.parametrize("ids", ["ascending", "mixed"])
def test_stored_rows_are_counted_while_they_are_placed(core, tmp_path, monkeypatch, ids):
    index = CosineIndex(core.shape[1])
    order = np.arange(len(core)) if ids == "ascending" else np.arange(len(core))[::-1]
    index.add(core, ids=order)
    index.save(tmp_path / "x.index")
    stored = CosineIndex.load(tmp_path / "x.index", method="sharded")
    seen, append = [], DeviceRows.append_rows
    monkeypatch.setattr(
        DeviceRows,
        "append_rows",
        lambda self, *rows: seen.append(stored._rows.used) or append(self, *rows),
    )
    found = stored.search(core[:3], 2)
    assert seen == [len(core)] * len(seen) != []
    for left, right in zip(found, index.search(core[:3], 2), strict=True):
        np.testing.assert_array_equal(left, right)
