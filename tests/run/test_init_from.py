"""Runs that start from others: what they take, what they keep, and what they refuse."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image

from vision_jax.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainClassifier,
)
from vision_jax.run.run import load_run
from vision_jax.run.train import train

NET = {"depths": [1], "stem": "small"}  # one residual block, with batch norm


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """A folder of the digits 0, 1 and 2, under other names."""
    root = tmp_path_factory.mktemp("few")
    images, labels = digits
    for name, digit in (("round", 0), ("stroke", 1), ("swan", 2)):
        (root / name).mkdir()
        for number, image in enumerate(images[labels == digit][:40]):
            Image.fromarray(image[..., 0]).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory, data_dir):
    """A run of the digits by a small residual network; not to be written to."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    data = DataConfig(data_dir=str(data_dir), batch_size=64, mean=(0.3,), std=(0.4,))
    train(
        TrainClassifier(model=ModelConfig("resnet18", NET), data=data, epochs=1),
        workdir,
        progress=False,
    )
    return workdir


def tuned(source, folder, **options):
    moves = {"freeze": options.pop("freeze", "none"), "learning_rate": 1e-3}
    moves |= {name: options.pop(name) for name in ("layer_decay", "head_epochs") if name in options}
    data = DataConfig(name=str(folder), batch_size=24)
    return TrainClassifier(
        data=data, optimizer=OptimizerConfig(**moves), init_from=str(source), epochs=2, **options
    )


def flat(run):
    return {
        path: np.asarray(leaf) for path, leaf in flatten_dict(run.state.variables, sep="/").items()
    }


def changed(before, after):
    """Paths of what differs in any bit."""
    return {path for path in before if before[path].tobytes() != after[path].tobytes()}


HEAD = {"params/fc/kernel", "params/fc/bias"}


@pytest.fixture(scope="module")
def frozen(source, folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tuned") / "frozen"
    train(tuned(source, folder, freeze="backbone"), workdir, progress=False)
    return workdir


def test_a_frozen_backbone_is_that_of_the_other_run_bit_for_bit(source, frozen, digits):
    before, after = flat(load_run(source)), flat(load_run(frozen, "last"))
    assert changed(before, after) == HEAD
    assert after["params/fc/kernel"].shape == (64, 3)
    images = digits[0][:8]
    np.testing.assert_array_equal(load_run(source).embed(images), load_run(frozen).embed(images))
    assert load_run(frozen).evaluate()["accuracy"] > 0.6  # 0.33 by chance
