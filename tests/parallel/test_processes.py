"""Two processes of two simulated devices each, joined over loopback, against one of four."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import jax
import numpy as np
import pytest

from vision_jax.cli import main
from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.parallel.processes import Distributed, Vote, first_alone, joined
from vision_jax.run.run import load_run
from vision_jax.training.checksums import find_fault
from vision_jax.training.metrics import read_metrics

OPTIMIZER = "--optimizer.name sgd --optimizer.learning-rate 0.05 --optimizer.schedule constant"
FAMILIES = {
    "cnn": f"cnn --model.stages 8 --model.hidden 16 --data.pad-crop 1 {OPTIMIZER}",
    "autoencoder": f"autoencoder --model.hidden 4 --model.code 2 {OPTIMIZER}",
    "gan": (
        "gan --model.generator 8 8 4 --model.discriminator 4 8 --model.latent-size 8 "
        f"--model.dropout 0 {OPTIMIZER}"
    ),
}


class Group:
    """The processes of one run, started together."""

    def __init__(self, words, workdir, *options, slurm=False):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.files = [workdir.with_name(f"{workdir.name}-{i}.log") for i in range(2)]
        self.members = []
        for i, path in enumerate(self.files):
            environment = {
                **os.environ,
                # The last of a flag counts.
                "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
                "PYTHONUNBUFFERED": "1",
            }
            if slurm:  # as srun would set them; JAX makes the port from the job's number
                group = ["--distributed.auto"]
                environment |= {
                    "SLURM_JOB_ID": str(port),
                    "SLURM_STEP_NODELIST": "localhost",
                    "SLURM_NTASKS": "2",
                    "SLURM_PROCID": str(i),
                    "SLURM_LOCALID": str(i),
                    "SLURM_STEP_NUM_NODES": "1",
                }
            else:
                group = ["--distributed.coordinator", f"127.0.0.1:{port}"]
                group += ["--distributed.processes", "2", "--distributed.process-id", str(i)]
            command = [sys.executable, "-m", "vision_jax.cli", "train", *words.split()]
            with path.open("w") as output:
                self.members.append(
                    subprocess.Popen(
                        [*command, "--workdir", str(workdir), *group, *options],
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env=environment,
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.kill()
            member.wait()

    def wait(self):
        """Return the exit codes, and what each process printed."""
        codes = [member.wait(timeout=300) for member in self.members]
        return codes, [path.read_text() for path in self.files]

    def wait_for(self, text):
        """Wait until the first process prints a text."""
        self.wait_until(lambda: text in self.files[0].read_text())

    def wait_until(self, condition):
        """Wait for a condition while the first process runs."""
        while not condition():
            try:
                self.members[0].wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(self.files[0].read_text() + self.files[1].read_text())


def has_a_whole_checkpoint(workdir):
    steps = [folder for folder in workdir.glob("checkpoints/*") if folder.name.isdigit()]
    return any(find_fault(folder) is None for folder in steps)


def words_for(family, data_dir, epochs):
    return f"{FAMILIES[family]} --epochs {epochs} --data.batch-size 64 --data.data-dir {data_dir}"


def assert_close(two, one):
    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)

    jax.tree.map(close, (two.params, two.stats), (one.params, one.stats))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_train_as_one_does(family, data_dir, tmp_path):
    """Up to summation order: measured differences are below 1e-7."""
    words = words_for(family, data_dir, 2)
    with Group(words, tmp_path / "two") as group:
        codes, printed = group.wait()
    assert codes == [0, 0], printed
    assert "epoch 2/2" in printed[0]
    assert "epoch 2/2" not in printed[1]
    assert main(["train", *words.split(), "--workdir", str(tmp_path / "one")]) == 0
    two, one = (load_run(tmp_path / name, "last") for name in ("two", "one"))
    assert two.step == one.step == 40
    assert_close(two.state, one.state)
    for a, b in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)
    # Only one process writes, and the run reads like any other.
    files = [[path.name for path in (tmp_path / name).iterdir()] for name in ("two", "one")]
    assert len(files[0]) == len(files[1])
    assert main(["evaluate", str(tmp_path / "two")]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "slurm"), [([0, 1], False), ([1], True)])
def test_a_signal_to_any_process_saves_in_all(asked, slurm, data_dir, tmp_path):
    with Group(words_for("cnn", data_dir, 500), tmp_path / "run", slurm=slurm) as group:
        group.wait_for("epoch 2/500")
        for i in asked:
            group.members[i].send_signal(signal.SIGTERM)
        codes, printed = group.wait()
    assert codes == [0, 0], printed
    steps = {line for text in printed for line in text.splitlines() if "stopped and saved" in line}
    assert len(steps) == 1
    step = load_run(tmp_path / "run", "last").step
    assert f"stopped and saved at step {step};" in steps.pop()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(lost, data_dir, tmp_path):
    words, heartbeat = words_for("cnn", data_dir, 10), ("--distributed.heartbeat", "5")
    with Group(words, tmp_path / "run", *heartbeat) as group:
        # The line of an epoch is printed while its checkpoint is still being written.
        group.wait_until(lambda: has_a_whole_checkpoint(tmp_path / "run"))
        group.members[lost].kill()
        codes, printed = group.wait()
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] not in (0, 2)
    # The small process that prints this outlives the process by a moment.
    message, start = "rerun the same command in every process", time.monotonic()
    while message not in group.files[1 - lost].read_text():
        assert time.monotonic() - start < 30, printed[1 - lost]
        time.sleep(0.1)
    with Group(words, tmp_path / "run", *heartbeat) as group:
        codes, printed = group.wait()
    assert codes == [0, 0], printed
    assert "epoch 1/10" not in printed[0]
    assert [row["epoch"] for row in read_metrics(tmp_path / "run")] == list(range(1, 11))


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(data_dir, tmp_path):
    words = ["-m", "vision_jax.cli", "train", *words_for("cnn", data_dir, 1).split()]
    words += ["--workdir", str(tmp_path / "run"), "--distributed.auto"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "the processes of this run cannot be joined" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_one_process_refuses_all_do(data_dir, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with Group(words_for("cnn", data_dir, 1), tmp_path / "run") as group:
        codes, printed = group.wait()
    assert codes == [2, 2]
    for text in printed:
        (line,) = text.splitlines()
        assert line.startswith("vision-jax: ")
        assert "holds something else" in line
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_a_setting_is_refused_by_all_in_the_commands_words(data_dir, tmp_path):
    words = words_for("cnn", data_dir, 1).replace("batch-size 64", "batch-size 63")
    with Group(words, tmp_path / "run") as group:
        codes, printed = group.wait()
    assert codes == [2, 2]
    line = "vision-jax: --data.batch-size is 63; it must be a multiple of the 2 processes\n"
    assert printed == [line, line]


SHARED = (
    "cnn --model.stages 8 --model.hidden 16 --optimizer.name adamw --optimizer.weight-decay 0.1 "
    "--optimizer.learning-rate 0.01 --optimizer.schedule constant --optimizer.ema 0.9"
)


@pytest.mark.slow
def test_state_split_over_two_processes_goes_on_in_one(data_dir, tmp_path):
    """Up to summation order: measured differences are 1.2e-7 after 40 steps."""
    words = f"{SHARED} --data.batch-size 64 --data.data-dir {data_dir}"
    with Group(f"{words} --epochs 1 --optimizer.shards 4", tmp_path / "split") as group:
        codes, printed = group.wait()
    assert codes == [0, 0], printed
    more = {"split": "--epochs 2 --extend --optimizer.shards 1", "whole": "--epochs 1"}
    for name, options in (*more.items(), ("whole", "--epochs 2 --extend")):
        assert main(["train", *f"{words} {options} --workdir {tmp_path / name}".split()]) == 0
    split, whole = (load_run(tmp_path / name, "last") for name in ("split", "whole"))
    assert split.step == whole.step == 40
    assert_close(split.state, whole.state)
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-6)
    jax.tree.map(close, split.state.average, whole.state.average)
    jax.tree.map(close, split.state.opt_state, whole.state.opt_state)


@pytest.mark.slow
def test_shards_that_are_not_the_devices_are_refused_by_all(data_dir, tmp_path):
    words = words_for("cnn", data_dir, 1)
    with Group(f"{words} --optimizer.shards 8", tmp_path / "run") as group:
        codes, printed = group.wait()
    assert codes == [2, 2]
    line = "vision-jax: --optimizer.shards is 8; it must be 1 or the number of devices, 4\n"
    assert printed == [line, line]
    assert not (tmp_path / "run").exists()


def test_each_process_reads_its_own_images_and_none_twice(digits):
    images, labels = digits
    read = [[], []]

    class Counted(ArraySource):
        def read(self, indices):
            read[process].extend(indices)
            return super().read(indices)

    source = Counted.from_arrays(images[:50], labels[:50])
    for process in range(2):
        loader = Loader(source, 8, train=True, on_device_bytes=0, process=(process, 2))
        assert len(list(loader.items(0, 6))) == 6
    assert len(read[0]) == len(read[1]) == 24
    assert len({*read[0], *read[1]}) == 48
    placed = [Loader(source, 8, train=True, process=(i, 2)).items(0, 6) for i in range(2)]
    held = [np.concatenate([item["index"] for item in items]).tolist() for items in placed]
    assert [set(rows) for rows in held] == [set(rows) for rows in read]


def test_a_vote_holds_at_the_same_step_whenever_its_metrics_are_seen():
    early, late = Vote(2, ahead=3), Vote(2, ahead=3)
    early.ask(True)
    np.testing.assert_array_equal(early.ballot(2)["asked"], [1, 1])
    np.testing.assert_array_equal(late.ballot(2)["asked"], [0, 0])
    stops = {}
    for name, vote, lag in (("early", early, 0), ("late", late, 3)):
        for step in range(1, 20):
            if step > lag:
                vote.count(step - lag, {"asked": np.int32(step - lag >= 5)})
            if vote.stops(step):
                stops[name] = step
                break
    assert stops == {"early": 8, "late": 8}
    assert early.settled


def test_a_process_on_its_own_stops_at_once():
    vote = Vote(1, ahead=3)
    assert vote.ballot(4) == {}
    assert not vote.stops(1)
    vote.ask(True)
    assert vote.stops(2)
    assert vote.settled


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"coordinator": "host"}, "coordinator is 'host'; HOST:PORT is needed"),
        ({"processes": 2}, "coordinator is None"),
        ({"coordinator": "host:99999"}, "HOST:PORT is needed"),
        ({"coordinator": "host:1", "process_id": 0}, "processes is None"),
        ({"coordinator": "host:1", "processes": 2}, "process_id is None"),
        (
            {"coordinator": "host:1", "processes": 2, "process_id": 2},
            r"process_id is 2; it must be in \[0, 2\)",
        ),
        ({"auto": True, "process_id": 1}, "auto is True"),
        ({"auto": True, "heartbeat": 0}, "heartbeat is 0; it must be at least 1"),
    ],
)
def test_groups_that_cannot_be_are_named(group, message):
    with pytest.raises(InputError, match=message), joined(Distributed(**group)):
        pass


def test_a_process_without_others_joins_nobody_and_waits_for_nobody():
    done = []
    with joined(Distributed()):
        first_alone(lambda: done.append(1))
    assert done == [1]
    assert jax.process_count() == 1
