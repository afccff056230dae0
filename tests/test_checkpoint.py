import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.parallel import DataParallel


def state(value):
    return {"params": {"kernel": jnp.full((4, 2), value, jnp.float32)}, "key": jax.random.key(7)}


def target(tree, devices=1):
    return DataParallel.over(devices).replicated(tree)


def save(checkpoints, step, **figures):
    checkpoints.save(step, state(float(step)), {"loss": jnp.ones(2)}, {"step": step}, figures)


def test_what_is_saved_is_restored_on_any_number_of_devices(tmp_path):
    with Checkpoints(tmp_path / "c", metric="loss", mode="min", create=True) as checkpoints:
        save(checkpoints, 3, loss=1.0)
        for devices in (1, 4):
            parts = checkpoints.restore(3, state=target(state(0.0), devices))
            np.testing.assert_array_equal(parts["state"]["params"]["kernel"], np.full((4, 2), 3.0))
            np.testing.assert_array_equal(
                jax.random.key_data(parts["state"]["key"]), jax.random.key_data(jax.random.key(7))
            )
            assert len(parts["state"]["params"]["kernel"].devices()) == devices
        assert checkpoints.about(3) == {"step": 3}


@pytest.mark.parametrize(("mode", "best"), [("max", 2), ("min", 4)])
def test_the_best_and_the_latest_two_are_kept(tmp_path, mode, best):
    values = {1: 0.5, 2: 0.9, 3: math.nan, 4: 0.1, 5: 0.4, 6: 0.6, 7: 0.5}
    with Checkpoints(tmp_path / "c", metric="accuracy", mode=mode, create=True) as checkpoints:
        for step, value in values.items():
            save(checkpoints, step, accuracy=value)
        assert checkpoints.find("best") == best
        assert checkpoints.find("last") == 7
        with pytest.raises(InputError, match=rf"no step 3; it has \[{best}, 6, 7\]"):
            checkpoints.find(3)


def test_without_figures_the_best_is_the_last(tmp_path):
    with Checkpoints(tmp_path / "c", metric="loss", mode="min", create=True) as checkpoints:
        assert checkpoints.find("best") is None
        save(checkpoints, 1)
        assert checkpoints.find("best") == 1


def test_what_does_not_fit_or_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Checkpoints(tmp_path / "gone", metric="loss", mode="min")
    with Checkpoints(tmp_path / "c", metric="loss", mode="min", create=True) as checkpoints:
        save(checkpoints, 1, loss=1.0)
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


def test_a_damaged_checkpoint_is_named(tmp_path):
    folder = tmp_path / "c"
    with Checkpoints(folder, metric="loss", mode="min", create=True) as checkpoints:
        save(checkpoints, 1, loss=1.0)
        checkpoints.wait()
        shutil.rmtree(folder / "1" / "state")
        with pytest.raises(InputError, match="1 lacks its state"):
            checkpoints.restore(1, state=target(state(0.0)))
