"""Reader processes: what they hand over, and how they end."""

import dataclasses
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.synchronize import SemLock
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from vision_jax.config import CNNConfig, DataConfig, TrainCNN
from vision_jax.data.loader import Loader, ReaderKilledError
from vision_jax.run.run import load_run
from vision_jax.run.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """The first 200 digits as PNG files, by class."""
    root = tmp_path_factory.mktemp("folder")
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        if number == 200:
            return root
        path = root / str(label) / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    raise AssertionError("there are fewer digits")


def test_a_killed_reader_is_named(small_source):
    loader = Loader(small_source, 8, train=True, on_device_bytes=0, workers=2)
    items, at_work = loader.items(0, 10**6), threading.Event()

    def interrupt_readers():
        """As Ctrl-C does, which the parent acts on; from before they have imported anything."""
        while not at_work.wait(0.02):
            for reader in children(os.getpid()):
                os.kill(reader, signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        interrupted = pool.submit(interrupt_readers)
        for _ in range(30):  # until both are at work
            next(items)
        at_work.set()
        interrupted.result()
    os.kill(children(os.getpid())[0], signal.SIGKILL)
    with pytest.raises(ReaderKilledError, match="one of the 2 reader processes ended with code -9"):
        list(items)
    assert not children(os.getpid())


@pytest.mark.slow
def test_readers_do_not_pile_up_semaphores(small_source):
    loader = Loader(small_source, 8, train=True, on_device_bytes=0, workers=1)
    gc.disable()
    try:
        counts = []
        for _ in range(3):
            list(loader.items(0, 2))
            counts.append(sum(issubclass(type(thing), SemLock) for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert 0 < counts[2] <= counts[0]


_SCRIPT = """
import numpy as np
from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError

def read():
    images = np.arange(12 * 64, dtype=np.uint8).reshape(12, 8, 8, 1)
    loader = Loader(ArraySource.from_arrays(images), 4, train=False, on_device_bytes=0, workers=1)
    try:
        global kept
        kept = list(loader.items(0, 3))
        print(sum(int(item["image"].sum()) for item in kept) == images.sum(dtype=int))
    except InputError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("end", "piped", "expected"),
    [
        ("if __name__ == '__main__': read()", False, "True"),
        ("read()", False, 'script\'s work under if __name__ == "__main__":, or set workers to 0'),
        ("read()", True, "cannot import the main script, <stdin>; save it as a file"),
    ],
)
def test_a_script_is_told_what_its_readers_lack_and_nothing_leaks(end, piped, expected, tmp_path):
    (tmp_path / "script.py").write_text(_SCRIPT + end)
    done = subprocess.run(
        [sys.executable, *([] if piped else [tmp_path / "script.py"])],
        input=_SCRIPT + end if piped else None,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert expected in line


def test_a_step_takes_bytes_and_makes_floats_of_them_itself(small_source):
    loader = Loader(small_source, 8, train=True, on_device_bytes=0)
    text = jax.jit(loader.batch).lower({}, loader.item(0)).as_text()
    (arguments,) = [line for line in text.splitlines() if "@main" in line]
    taken, _, made = arguments.partition(" -> ")
    assert "tensor<8x8x8x1xui8>" in taken
    assert "xf32>" not in taken
    assert "tensor<8x8x8x1xf32>" in made


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_with_any_number_of_readers(folder, tmp_path):
    data = DataConfig(name=str(folder), channels=1, batch_size=16, on_device_mib=0, workers=0)
    config = TrainCNN(data=data, model=CNNConfig(stages=(8,), hidden=16), epochs=2)
    train(config, tmp_path / "whole", progress=False)
    after_three = [False, False, True]
    for workers, answers in ((2, after_three), (3, after_three), (0, itertools.repeat(False))):
        readers = dataclasses.replace(config, data=dataclasses.replace(data, workers=workers))
        should_stop = partial(next, iter(answers))
        train(readers, tmp_path / "stopped", should_stop=should_stop, progress=False)
    states = [load_run(tmp_path / name, "last").state for name in ("whole", "stopped")]
    for whole, stopped in zip(*map(jax.tree.leaves, map(plain, states)), strict=True):
        np.testing.assert_array_equal(whole, stopped)
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "stopped")]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_readers_end_with_their_parent_even_if_it_is_killed(folder, tmp_path):
    workdir = tmp_path / "run"
    command = f"cnn --workdir {workdir} --data.name {folder} --data.on-device-mib 0"
    options = "--data.workers 2 --data.channels 1 --data.batch-size 8 --epochs 100000"
    run = subprocess.Popen(
        [sys.executable, "-m", "vision_jax.cli", "train", *command.split(), *options.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    readers = wait_for(lambda: len(found := children(run.pid)) == 2 and found)
    # The first steps are done: the readers are at work.
    wait_for(lambda: (workdir / "metrics.jsonl").exists())
    run.kill()
    run.wait()
    wait_for(lambda: not any(is_alive(reader) for reader in readers))


def plain(state):
    """A state whose key can be compared."""
    return state.replace(key=jax.random.key_data(state.key))


def children(parent):
    """The reader processes that a process has started."""
    try:
        tasks = [path.read_text() for path in Path(f"/proc/{parent}/task").glob("*/children")]
    except FileNotFoundError:  # a thread has just ended
        return []
    return [int(pid) for task in tasks for pid in task.split() if is_reader(int(pid))]


def is_reader(pid):
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return value
