"""A finished run is trained on, and an interrupted extension ends as an uninterrupted one."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from vision_jax.config import CNNConfig
from vision_jax.errors import InputError
from vision_jax.run.run import load_run
from vision_jax.run.train import train
from vision_jax.run.workdir import read_config, read_extensions
from vision_jax.tasks.optimizer import build_schedule
from vision_jax.training.metrics import read_metrics

STEPS = 20  # an epoch


@pytest.fixture
def copy(workdir, tmp_path):
    """A copy of the finished run, which may be written to."""
    shutil.copytree(workdir, tmp_path / "run")
    return tmp_path / "run"


def longer(config, epochs=5, rate=1e-3):
    return replace(config, epochs=epochs, optimizer=replace(config.optimizer, learning_rate=rate))


def leaves(run):
    return jax.tree.map(np.asarray, (run.state.params, run.state.stats))


def test_the_schedule_begins_anew_over_the_added_epochs():
    anew = build_schedule(0.1, "cosine", warmup_steps=4, start=30, total_steps=50)
    plain = build_schedule(0.1, "cosine", warmup_steps=4, total_steps=20)
    counts = range(20)
    np.testing.assert_allclose(
        [float(anew(30 + i)) for i in counts], [float(plain(i)) for i in counts], rtol=1e-6
    )
    np.testing.assert_allclose(float(anew(50)), 0, atol=1e-8)


@pytest.mark.slow
def test_an_interrupted_extension_ends_as_an_uninterrupted_one(copy, config, tmp_path, capsys):
    shutil.copytree(copy, tmp_path / "other")
    before = load_run(copy, "last")
    whole = train(longer(config), copy, extend=True, progress=False)
    assert [row["epoch"] for row in whole.history] == [4, 5]
    run = load_run(copy, "last")
    assert run.step == 5 * STEPS

    # Killed before its first step, then stopped within an epoch.
    other = tmp_path / "other"
    train(longer(config), other, extend=True, progress=False, should_stop=lambda: True)
    assert read_config(other).epochs == 5
    for stop in (STEPS + 7, 10**6):
        asked = []
        train(
            longer(config),
            other,
            extend=True,
            progress=False,
            should_stop=lambda asked=asked, stop=stop: asked.append(1) or len(asked) >= stop,
        )
    again = load_run(other, "last")
    jax.tree.map(np.testing.assert_array_equal, leaves(again), leaves(run))
    assert read_metrics(other) == read_metrics(copy)
    assert [row["epoch"] for row in read_metrics(copy)] == [1, 2, 3, 4, 5]
    (extension,) = read_extensions(other)
    assert extension["epoch"] == 3
    assert "epochs: 3 there, 5 asked for" in extension["changes"]
    assert train(longer(config), other, extend=True, progress=False).history == []

    moved = [leaves(one)[0]["logits"]["kernel"] for one in (before, run)]
    assert not np.array_equal(*moved)
    load_run(copy, 3 * STEPS if 3 * STEPS in _steps(copy) else "best")  # of the time before
    with pytest.raises(InputError, match="epochs: 5 there, 3 asked for"):
        train(config, copy, progress=False)


def _steps(folder):
    return {int(path.name) for path in (folder / "checkpoints").iterdir()}


def test_what_cannot_be_extended_is_refused_and_left_alone(copy, config, tmp_path):
    before = {path: path.read_bytes() for path in copy.glob("*.json*")}
    other = replace(config, model=CNNConfig(stages=(8,)))
    for new, message in [
        (config, None),
        (longer(config, epochs=3), "epochs is 3; more than the 3 that are done"),
        (longer(config, epochs=2), "epochs is 2; more than the 3 that are done"),
        (replace(other, epochs=9), r"model.hidden: 64 there, 512 asked for"),
    ]:
        if message is None:
            assert train(new, copy, extend=True, progress=False).history == []
            continue
        with pytest.raises(InputError, match=message):
            train(new, copy, extend=True, progress=False)
    with pytest.raises(InputError, match="holds no run that could be extended"):
        train(config, tmp_path / "none", extend=True)
    assert not (tmp_path / "none").exists()
    assert {path: path.read_bytes() for path in before} == before
