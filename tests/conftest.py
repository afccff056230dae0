"""Four simulated devices, strict dtype promotion, one compilation cache, and one trained run."""

import functools
import os
from collections import Counter
from pathlib import Path

DEVICES = 4
# Compiling is most of the tests' time, and LLVM's expensive passes a fifth of that.
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={DEVICES} --xla_llvm_disable_expensive_passes=true"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax-tests")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax  # noqa: E402  the environment above must be set before jax reads it
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from vision_jax.config import CNNConfig, DataConfig, OptimizerConfig, TrainCNN  # noqa: E402
from vision_jax.data.catalog import open_source  # noqa: E402
from vision_jax.data.sources import ArraySource  # noqa: E402
from vision_jax.run.train import train  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_addoption(parser):
    parser.addoption(
        "--divide-by",
        metavar="FOLDER",
        type=Path,
        help="divide the test files with all runs that are given this folder, which starts empty",
    )


@functools.cache
def _takes(folder, path):
    """Whether this run takes a file: the first to make its folder does."""
    try:
        (folder / path.relative_to(Path(__file__).parent)).mkdir(parents=True)
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(tryfirst=True)  # before any fixture
def pytest_runtest_setup(item):
    folder = item.config.option.divide_by
    if folder is not None and not _takes(folder, item.path):
        pytest.skip("another run has taken this file")


def pytest_configure(config):
    """Leave out LLVM's optimization, half of compiling, where no test trains long.

    Training is as fast with little of it as with all.
    """
    level = 0 if config.option.markexpr == "not slow" else 1
    os.environ["XLA_FLAGS"] += f" --xla_backend_optimization_level={level}"


# A compiled program keeps what it was compiled from, which slows the next compilation: twice as
# long after 1,500 programs on jax 0.10. It also holds memory maps, of which Linux grants a process
# 65,530; beyond them it ends with a segmentation fault.
_PROGRAMS = 500
_COMPILED = "/jax/core/compile/backend_compile_duration"
_events: Counter[str] = Counter()
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: _events.update([event])
)


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    yield
    if _events[_COMPILED] > _PROGRAMS:
        _events.clear()
        jax.clear_caches()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the digits are prepared, once for all tests."""
    folder = tmp_path_factory.mktemp("datasets")
    open_source("digits", "train", data_dir=folder)
    return folder


@pytest.fixture(scope="session")
def config(data_dir):
    """A config small enough for tests."""
    return TrainCNN(
        data=DataConfig(data_dir=str(data_dir), batch_size=64, pad_crop=1),
        model=CNNConfig(stages=(16, 32), hidden=64, dropout=0.2),
        optimizer=OptimizerConfig(learning_rate=5e-3),
        epochs=3,
    )


@pytest.fixture(scope="session")
def workdir(tmp_path_factory, config):
    """The folder of a run of `config`; not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(config, folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def digits():
    """The digits as arrays: images (1797, 8, 8, 1) uint8 and labels."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = np.round(loaded.images * (255 / 16)).astype(np.uint8)[..., None]
    return images, loaded.target.astype(np.int32)


@pytest.fixture
def small_source(digits):
    """The first 50 digits as a source."""
    images, labels = digits
    return ArraySource.from_arrays(images[:50], labels[:50], name="small")


@pytest.fixture(scope="session")
def normal():
    def draw(seed, *shape):
        return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)

    return draw


@pytest.fixture(scope="session")
def assert_close():
    """Within the tolerance of the largest value: sums of many products cancel."""

    def compare(actual, desired, tolerance=1e-4):
        def check(a, b):
            a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
            np.testing.assert_allclose(
                a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0))
            )

        jax.tree.map(check, actual, desired)

    return compare
