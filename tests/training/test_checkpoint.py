import json
import math
import resource
import shutil
import warnings
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.errors import DataWarning, InputError, RunError
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.checksums import find_fault
from vision_jax.training.steps import DataParallel


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog):
    """What orbax logs, such as a traceback by each thread of a failed save, reaches nobody."""
    yield
    assert caplog.get_records("call") == []


def state(value):
    return {"params": {"kernel": jnp.full((4, 2), value, jnp.float32)}, "key": jax.random.key(7)}


def target(tree, devices=1):
    return DataParallel.over(devices).replicated(tree)


def save(checkpoints, step, **metrics):
    checkpoints.save(step, state(float(step)), {"loss": jnp.ones(2)}, {"step": step}, metrics)


def test_what_is_saved_is_restored_on_any_number_of_devices(tmp_path):
    with closing(
        Checkpoints(tmp_path / "c", metric="loss", mode="min", create=True)
    ) as checkpoints:
        save(checkpoints, 3, loss=1.0)
        for devices in (1, 4):
            parts = checkpoints.restore(3, state=target(state(0.0), devices))
            np.testing.assert_array_equal(parts["state"]["params"]["kernel"], np.full((4, 2), 3.0))
            np.testing.assert_array_equal(
                jax.random.key_data(parts["state"]["key"]), jax.random.key_data(jax.random.key(7))
            )
            assert len(parts["state"]["params"]["kernel"].devices()) == devices
        assert checkpoints.about(3) == {"step": 3}


def test_saving_what_each_device_holds_compiles_nothing(tmp_path):
    spread, compiled = DataParallel.over(4), []
    held = spread.replicate({"kernel": jnp.ones((8, 23)), "key": jax.random.key(7)})

    def listen(name, *_, **__):
        compiled.append(name)

    with closing(Checkpoints(tmp_path / "c", metric="loss", create=True)) as checkpoints:
        jax.monitoring.register_event_duration_secs_listener(listen)
        checkpoints.save(1, spread.to_all(held), spread.to_all(held), {}, {})
        jax.monitoring.unregister_event_duration_listener(listen)
        assert [name for name in compiled if "compile" in name] == []
        kernel = checkpoints.restore(1, state=spread.replicated(held))["state"]["kernel"]
        np.testing.assert_array_equal(kernel, held["kernel"])


@pytest.mark.parametrize(("mode", "best"), [("max", 2), ("min", 4)])
def test_the_best_and_the_latest_two_are_kept(tmp_path, mode, best):
    values = {1: 0.5, 2: 0.9, 3: math.nan, 4: 0.1, 5: 0.4, 6: 0.6, 7: 0.5}
    with closing(
        Checkpoints(tmp_path / "c", metric="accuracy", mode=mode, create=True)
    ) as checkpoints:
        for step, value in values.items():
            save(checkpoints, step, accuracy=value)
        assert checkpoints.find("best") == best
        assert checkpoints.find("last") == checkpoints.find(np.int64(7)) == 7
        with pytest.raises(InputError, match=rf"no step 3; it has \[{best}, 6, 7\]"):
            checkpoints.find(3)


def test_without_figures_the_best_is_the_last(tmp_path):
    with closing(
        Checkpoints(tmp_path / "c", metric="loss", mode="min", create=True)
    ) as checkpoints:
        assert checkpoints.find("best") is None
        save(checkpoints, 1)
        assert checkpoints.find("best") == 1


def test_what_does_not_fit_or_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Checkpoints(tmp_path / "gone", metric="loss", mode="min")
    with closing(
        Checkpoints(tmp_path / "c", metric="loss", mode="min", create=True)
    ) as checkpoints:
        save(checkpoints, 1, loss=1.0)
        for which in ("bset", 1.0, None):
            with pytest.raises(InputError, match=rf"which is {which!r}; 'best', 'last' or a step"):
                Checkpoints.find.__wrapped__(checkpoints, which)  # without beartype
        for wrong, message in (
            (jnp.zeros((5, 2)), r"float32\[4, 2\] at state.params.kernel; needed: float32\[5, 2\]"),
            (jnp.zeros((4, 2), jnp.int32), r"needed: int32\[4, 2\]"),
            (
                {"deep": jnp.zeros(1)},
                r"holds float32\[4, 2\] at state.params.kernel; needed: nothing",
            ),
        ):
            shapes = {"params": {"kernel": wrong}, "key": jax.random.key(7)}
            with pytest.raises(InputError, match=message):
                checkpoints.restore(1, state=target(shapes))


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def largest(step):
    """The file that holds most of a step's arrays."""
    return max((step / "state").rglob("d/*"), key=lambda path: path.stat().st_size)


HARMS = {
    "is damaged": lambda step: flip_a_bit(largest(step)),
    "its SHA-256 differs": lambda step: truncate(largest(step)),
    "is missing": lambda step: largest(step).unlink(),
    "metrics is damaged": lambda step: (step / "metrics" / "metrics").write_text("{"),
    "manifest.json is damaged": lambda step: truncate(step / "manifest.json"),
    "not written completely": lambda step: (step / "manifest.json").unlink(),
    "7/manifest.json is missing": lambda step: (step.parent / "7").mkdir(),
}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Steps 3 and 4; the best is 4. Not to be written to."""
    folder = tmp_path_factory.mktemp("three") / "checkpoints"
    with closing(Checkpoints(folder, metric="loss", mode="min", create=True)) as checkpoints:
        for step in (2, 3, 4):
            save(checkpoints, step, loss=5.0 - step)
    return folder


@pytest.fixture
def folder(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run" / "checkpoints")


@pytest.mark.parametrize("message", HARMS)
def test_a_damaged_step_is_named_and_the_newest_whole_one_used(folder, message):
    harmed = 7 if message.startswith("7/") else 4
    HARMS[message](folder / "4")
    used = 4 if harmed == 7 else 3
    with closing(Checkpoints(folder, metric="loss", mode="min")) as checkpoints:
        with pytest.warns(
            DataWarning, match=rf"{message}.*; step {used} is used instead$"
        ) as caught:
            assert checkpoints.find("last") == used
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the stray folder is never the best
            assert checkpoints.find("best") == used
        parts = checkpoints.restore(used, state=target(state(0.0)))
        np.testing.assert_array_equal(
            parts["state"]["params"]["kernel"], np.full((4, 2), float(used))
        )
        for ask in (checkpoints.find, lambda step: checkpoints.restore(step, state={})):
            with pytest.raises(InputError, match=f"{harmed}/.*{message.removeprefix('7/')}"):
                ask(harmed)


@pytest.mark.parametrize("message", HARMS)
def test_a_run_goes_on_over_a_damaged_step_which_is_set_aside(folder, message):
    HARMS[message](folder / "4")
    harmed = "7" if message.startswith("7/") else "4"
    with pytest.warns(
        DataWarning, match=rf"{message}.*/damaged/{harmed}; step [34] is used$"
    ) as caught:
        opened = Checkpoints(folder, metric="loss", mode="min", create=True)
    assert len(caught) == 1
    with closing(opened) as checkpoints:
        assert not (folder / harmed).exists()
        assert (folder.parent / "damaged" / harmed).is_dir()
        for step in (int(harmed), 8):
            save(checkpoints, step, loss=0.1)
        assert checkpoints.find("last") == 8
        assert checkpoints.find(int(harmed)) == int(harmed)


def test_every_damaged_file_is_noticed(three, tmp_path):
    names = [path.relative_to(three) for path in (three / "4").rglob("*") if path.is_file()]
    for place, name in enumerate(sorted(names)):
        if str(name) in ("4/_CHECKPOINT_METADATA", "4/commit_success.txt"):  # of no meaning here
            continue
        folder = shutil.copytree(three, tmp_path / str(place))
        flip_a_bit(folder / name)
        assert find_fault(folder / "4") is not None, name
    assert len(names) > 10


def test_damage_alone_is_never_taken_for_a_new_run(folder):
    for step in folder.iterdir():
        flip_a_bit(largest(step))
    files = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match="holds no intact checkpoint"):
        Checkpoints(folder, metric="loss", mode="min", create=True)
    with (
        closing(Checkpoints(folder, metric="loss", mode="min")) as checkpoints,
        pytest.raises(InputError, match="holds no intact checkpoint"),
    ):
        checkpoints.find("best")
    assert sorted(folder.rglob("*")) == files


def test_a_save_that_was_cut_off_is_cleared_away(folder):
    (folder / "9.orbax-checkpoint-tmp-1").mkdir()
    with closing(Checkpoints(folder, metric="loss", mode="min", create=True)) as checkpoints:
        save(checkpoints, 9, loss=0.1)
        assert checkpoints.find("best") == 9
    assert {path.name for path in folder.iterdir()} == {"4", "9"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_never_makes_the_best(tmp_path, value):
    for mode in ("min", "max"):
        folder = tmp_path / mode
        with closing(Checkpoints(folder, metric="loss", mode=mode, create=True)) as checkpoints:
            save(checkpoints, 1, loss=1.0)
            for step in (2, 3, 4):
                save(checkpoints, step, loss=value)
            assert checkpoints.find("best") == 1
        for path in folder.glob("*/metrics/metrics"):
            assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"loss": 1.0}
        assert (folder / "1" / "metrics").is_dir()


def test_without_figures_only_the_latest_two_are_kept(tmp_path):
    with closing(Checkpoints(tmp_path / "c", metric=None, create=True)) as checkpoints:
        for step in (1, 2, 3, 4):
            save(checkpoints, step)
        checkpoints.wait()
        assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "4"]


def test_a_failed_write_is_named_and_the_step_before_kept(tmp_path):
    folder = tmp_path / "c"
    with closing(Checkpoints(folder, metric="loss", mode="min", create=True)) as checkpoints:
        save(checkpoints, 1, loss=1.0)
        checkpoints.wait()
        large, totals = {"kernel": jnp.arange(4096, dtype=jnp.float32)}, {"loss": jnp.ones(2)}
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            checkpoints.save(2, large, totals, {}, {})
            with pytest.raises(RunError, match=r"2 could not be written; step 1 is kept") as failed:
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(str(failed.value).splitlines()) == 1
    with closing(Checkpoints(folder, metric="loss", mode="min", create=True)) as checkpoints:
        assert checkpoints.find("last") == 1
