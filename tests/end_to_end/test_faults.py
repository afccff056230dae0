import os
import random
import re
import resource
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from vision_jax.run.run import load_run

EPOCHS = 12
FAMILIES = {
    "cnn": "cnn --model.stages 8 --model.hidden 256 --data.pad-crop 1",
    "autoencoder": "autoencoder --model.hidden 4 --model.code 2",
    "gan": "gan --model.generator 8 8 4 --model.discriminator 4 8 --model.latent-size 8",
}


class Training:
    """The command line at work, as a user starts it."""

    def __init__(self, family, workdir, data_dir, devices=1):
        words = (
            f"train {FAMILIES[family]} --epochs {EPOCHS} --data.batch-size 64 "
            f"--workdir {workdir} --data.data-dir {data_dir}"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vision_jax.cli", *words.split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                # The last of a flag counts.
                "XLA_FLAGS": (
                    f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
                ),
            },
        )

    def wait_for_epochs(self, count):
        """Waits until so many more epochs are done."""
        for line in self.process.stdout:
            count -= line.startswith("epoch ")
            if count <= 0:
                return
        raise AssertionError(self.process.stderr.read())

    def end(self):
        """The exit code, and what came on standard output and error."""
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, output, errors


def assert_same_runs(one, two):
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    for which in ("last", "best"):
        a, b = load_run(one, which), load_run(two, which)
        assert a.step == b.step
        leaves = [
            jax.tree.leaves(
                jax.tree.map(
                    lambda x: (
                        jax.random.key_data(x)
                        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
                        else x
                    ),
                    run.state,
                )
            )
            for run in (a, b)
        ]
        for x, y in zip(*leaves, strict=True):
            np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
    for folder in ("checkpoints", "epochs"):
        names = [sorted(p.name for p in (run / folder).glob("*")) for run in (one, two)]
        assert names[0] == names[1]
    for path in (one / "epochs").glob("*"):
        assert path.read_bytes() == (two / "epochs" / path.name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("family", "devices"), [("cnn", 4), ("autoencoder", 4), ("gan", 1)])
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(family, devices, data_dir, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, _, errors = Training(family, whole, data_dir, devices).end()
    assert code == 0, errors
    moments = random.Random(f"{family} {devices}")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        training = Training(family, killed, data_dir, devices)
        training.wait_for_epochs(moments.randint(1, 3))
        time.sleep(moments.uniform(0, 0.1))
        training.process.send_signal(number)
        code, _, errors = training.end()
        assert code == (0 if number == signal.SIGTERM else -number), errors
    code, output, errors = Training(family, killed, data_dir, devices).end()
    assert code == 0, errors
    assert f"epoch {EPOCHS}/{EPOCHS}" in output
    assert "epoch 1/" not in output
    assert_same_runs(whole, killed)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_one_line_and_it_goes_on_later(data_dir, tmp_path):
    training = Training("cnn", tmp_path / "run", data_dir)
    # The first checkpoint may still be being written at the second line; by the third it is whole.
    training.wait_for_epochs(3)
    resource.prlimit(training.process.pid, resource.RLIMIT_FSIZE, (30_000, -1))
    code, _, errors = training.end()
    assert code == 1, errors
    # Orbax's own threads may print what they met; the command says it once.
    (line,) = [row for row in errors.splitlines() if row.startswith("vision-jax: ")]
    assert re.search(r"could not be written; step \d+ is kept", line)
    code, output, errors = Training("cnn", tmp_path / "run", data_dir).end()
    assert code == 0, errors
    assert "epoch 1/" not in output
